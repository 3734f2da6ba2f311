// What a run of `turl bench` gives: the timings, and what they depend on besides the code. A JSON file keeps it for comparisons.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import * as z from 'zod';
import type { Device } from '../tensor/device.js';
import { UserError } from '../tensor/errors.js';
import { explainFileError } from '../train/atomic.js';
import { machine, versions, type Machine, type Versions } from '../train/environment.js';
import type { KernelCase, Sizes } from './case.js';
import { measure, measureCeilings, type Ceilings, type Skipped, type Timing } from './run.js';

export interface Results extends Versions {
  readonly date: string;
  readonly machine: Machine;
  readonly device: { readonly name: string; readonly description: string; readonly threads: number };
  /** MHz before and after, or why they cannot be read. */
  readonly clocks: readonly [string, string];
  readonly ceilings: Ceilings;
  readonly results: readonly (Timing | Skipped)[];
}

/** The clocks of the device now, in words. */
export function clocksOf(device: string): string {
  try {
    if (device === 'cuda')
      return execFileSync('nvidia-smi', ['--query-gpu=clocks.sm,clocks.mem', '--format=csv,noheader'], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      }).trim();
    const all = [...readFileSync('/proc/cpuinfo', 'utf8').matchAll(/^cpu MHz\s*:\s*([\d.]+)/gm)];
    const clocks = all.map(([, text]) => Math.round(Number(text)));
    if (clocks.length > 0) return `${Math.min(...clocks)} to ${Math.max(...clocks)} MHz`;
  } catch {
    // Neither file nor program is everywhere.
  }
  return 'cannot be read';
}

/** Runs the cases one after another; `tell` hears how many are done. */
export function runBench(
  device: Device,
  cases: readonly KernelCase[],
  { sizes, seconds, tell }: { sizes: Sizes; seconds: number; tell: (done: number) => void },
): Results {
  const before = clocksOf(device.name);
  const ceilings = measureCeilings(device, sizes, seconds);
  const results = cases.map((entry, i) => {
    tell(i);
    return measure(device, entry, ceilings, seconds);
  });
  return { ...circumstances(device, before), ceilings, results };
}

/** Where and when something was measured. @param before what `clocksOf` gave when it began */
export function circumstances(device: Device, before: Results['clocks'][0]) {
  const { description, threads } = device.statistics();
  return {
    ...versions(),
    date: new Date().toISOString(),
    machine: machine(),
    device: { name: device.name, description, threads },
    clocks: [before, clocksOf(device.name)] as const,
  };
}

const timing = z.object({
  kernel: z.string(),
  shape: z.string(),
  warm: z.object({ median: z.number(), low: z.number(), high: z.number() }),
  times: z.array(z.number()).optional(),
});
const file = z.object({
  commit: z.string().nullish(),
  device: z.object({ description: z.string() }),
  results: z.array(z.union([timing, z.object({ skipped: z.string() })])),
});

/** Of a case: its name, and milliseconds. */
export interface Measured {
  readonly name: string;
  readonly median: number;
  /** Single runs, where the file has them. */
  readonly times: readonly number[];
}

export interface Measurements {
  readonly commit: string;
  readonly description: string;
  readonly cases: readonly Measured[];
}

/** @throws UserError where the text is no result of turl bench */
export function parseResults(name: string, text: string): Measurements {
  let parsed;
  try {
    parsed = file.parse(JSON.parse(text));
  } catch {
    throw new UserError(`${name}: expected the JSON of turl bench, found something else`);
  }
  return {
    commit: parsed.commit ?? 'unknown commit',
    description: parsed.device.description,
    cases: parsed.results.flatMap((one) =>
      'warm' in one
        ? [{ name: `${one.kernel} ${one.shape}`, median: one.warm.median, times: one.times ?? [] }]
        : [],
    ),
  };
}

export function readResults(path: string): Measurements {
  let text;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw explainFileError(error, `read ${path}`);
  }
  return parseResults(path, text);
}
