/** Runs the cells of a sweep, each as processes of its own: `turl train`, then `turl eval` for each test. */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import { basename, join } from 'node:path';
import * as z from 'zod';
import { configToYaml, firstDifference, loadConfig, type Config, type Difference } from '../config/index.js';
import { UserError } from '../tensor/errors.js';
import { makeFolder, writeAtomic } from '../train/atomic.js';
import { versions } from '../train/environment.js';
import { lockRunDirectory } from '../train/run-lock.js';
import { changedResult, experimentsOf, readResult, writeResult, type CellResult } from './results.js';
import { ownTest, type Cell, type LoadedSweep } from './sweep.js';

const turl = join(import.meta.dirname, '../../bin/turl.js');

export interface RunOptions {
  /** Where run directories go. */
  runs: string;
  /** Where results and tables go. */
  results: string;
  /** Cells at a time; each has its share of the cores. */
  jobs: number;
  signal?: AbortSignal;
  /** Told of each line worth showing. */
  onLine: (line: string) => void;
}

interface Finished {
  code: number | null;
  /** What killed it, if anything did. */
  killed: NodeJS.Signals | null;
  out: string;
  error: string;
}

/** @param stop is passed on as SIGUSR2, which a cell that trains takes as an interrupt; one that is tested ends */
function run(
  args: readonly string[],
  threads: number,
  stop?: AbortSignal,
  onLine?: (line: string) => void,
): Promise<Finished> {
  return new Promise((done, fail) => {
    const child = spawn(process.execPath, [turl, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, TURL_THREADS: String(threads), NO_COLOR: '1' },
    });
    const passOn = () => void child.kill('SIGUSR2');
    stop?.addEventListener('abort', passOn);
    let [out, error] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      error = (error + text).slice(-4000);
      for (const line of text.trimEnd().split('\n')) onLine?.(line);
    });
    child.on('error', fail).on('close', (code, killed) => {
      stop?.removeEventListener('abort', passOn);
      done({ code, killed, out, error });
    });
  });
}

const evaluationSchema = z.object({
  protocol: z.record(z.string(), z.unknown()),
  correlation: z.number().nullable(),
  rows: z.array(
    z.object({
      version: z.string(),
      verification: z.object({
        accuracy: z.object({ mean: z.number() }),
        impostorPairs: z.number(),
        tarAtFar: z.array(z.object({ far: z.number(), tar: z.number() })),
        auc: z.number(),
        equalErrorRate: z.number(),
      }),
    }),
  ),
});

function figuresOf(text: string): {
  versions: Record<string, Record<string, number>>;
  protocol: Record<string, unknown>;
} {
  const { rows, protocol, correlation } = evaluationSchema.parse(JSON.parse(text));
  delete protocol['definitions'];
  // Where the files lay is nobody’s business; their names are.
  for (const key of ['data', 'pairs'])
    if (typeof protocol[key] === 'string') protocol[key] = basename(protocol[key]);
  return {
    protocol: { ...protocol, impostorPairs: rows[0]?.verification.impostorPairs },
    versions: Object.fromEntries(
      rows.map(({ version, verification: v }, i) => [
        version,
        {
          accuracy: v.accuracy.mean,
          ...Object.fromEntries(v.tarAtFar.map(({ far, tar }) => [`tar_at_far_${far}`, tar])),
          auc: v.auc,
          equal_error_rate: v.equalErrorRate,
          ...(i === 0 && correlation !== null ? { correlation } : {}),
        },
      ]),
    ),
  };
}

/** Seconds between the start of each sitting and its last logged step. */
function trainingSeconds(run: string): number {
  const lines = readFileSync(join(run, 'metrics.jsonl'), 'utf8').trimEnd().split('\n');
  const rate = z.object({ 'speed/images_per_second': z.number() });
  const rates = lines.flatMap((line) => {
    const parsed = rate.safeParse(JSON.parse(line));
    return parsed.success ? [parsed.data['speed/images_per_second']] : [];
  });
  const { train } = loadConfig(join(run, 'config.yaml'));
  const images = train.batch_size * train.accumulate * train.log_every;
  return rates.reduce((sum, perSecond) => sum + images / perSecond, 0);
}

/** What went wrong: turl's own sentence, which need not be the last line (a runtime may add its own), else what is known. */
function complaint({ error, code, killed }: Finished): string {
  const lines = error.split('\n').filter((line) => line.trim() !== '');
  const own = lines.findLast((line) => line.startsWith('turl: '));
  if (own !== undefined) return own.slice('turl: '.length);
  const end = killed ? `killed by ${killed}` : `exit code ${code}`;
  return [end, ...lines.slice(-1)].join(': ');
}

/** The experiment of the cell's run. */
const runConfigOf = ({ config, id, start }: Cell, runs: string): Config => ({
  ...config,
  name: id,
  work_dir: join(runs, id),
  from: start ? join(runs, start.id) : config.from,
});

/** How the cell differs from the run that its folder holds, if it holds one. */
function changedRun(runs: string, cell: Cell): Difference | undefined {
  const place = join(runs, cell.id);
  const file = join(place, 'config.yaml');
  if (!existsSync(file)) return undefined;
  try {
    return firstDifference(loadConfig(file), runConfigOf(cell, runs), place);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return { place, text: `expected an experiment that can be read, found ${error.message.split('\n')[0]}` };
  }
}

/** A cell whose experiment is not that of what is kept of it. */
interface ChangedCell {
  id: string;
  differences: Difference[];
}

/** @param toRun those that would go on with their runs, which must be the same as well */
export function changedCells(
  cells: readonly Cell[],
  toRun: readonly Cell[],
  { runs, results }: Pick<RunOptions, 'runs' | 'results'>,
): ChangedCell[] {
  return cells.flatMap((cell) => {
    const result = changedResult(results, cell);
    const run = toRun.includes(cell) ? changedRun(runs, cell) : undefined;
    const differences = [result, run].filter((one) => one !== undefined);
    return differences.length > 0 ? [{ id: cell.id, differences }] : [];
  });
}

/** @throws UserError if there is one, since to run it again would write over what it found */
export function refuseChanged([first, ...others]: readonly ChangedCell[]): void {
  if (!first) return;
  const more = others.length > 0 ? `, the first of ${others.length + 1} cells that differ` : '';
  const places = first.differences.map(({ place }) => place).join(' and ');
  throw new UserError(
    `${first.id}: ${first.differences[0]?.text}${more}: remove ${places} to run the cell again, or choose other folders with --out and --runs`,
  );
}

export async function runCell(sweep: LoadedSweep, cell: Cell, options: RunOptions): Promise<CellResult> {
  const threads = Math.max(1, Math.floor(availableParallelism() / options.jobs));
  const directory = join(options.runs, cell.id);
  const { start } = cell;
  if (start && !readResult(options.results, start, sweep.tests))
    throw new UserError(`it starts from the run of ${start.id}, which is not done`);
  refuseChanged(changedCells([cell], [cell], options));
  const begun = existsSync(join(directory, 'config.yaml'));
  if (begun) lockRunDirectory(directory, 'choose another folder with --runs')(); // whoever is in it is told before anything is written
  makeFolder(options.runs);
  const file = join(options.runs, `${cell.id}.yaml`);
  writeAtomic(file, configToYaml(runConfigOf(cell, options.runs)));
  const args = begun ? ['train', file, '--resume', directory] : ['train', file];
  const show = (line: string) => {
    if (/^(before|step|stopped)/.test(line)) options.onLine(`${cell.id}: ${line}`);
  };
  const trained = await run(args, threads, options.signal, show);
  if (trained.code !== 0) {
    if (!existsSync(join(directory, 'config.yaml'))) rmSync(file, { force: true }); // nothing has begun
    throw new UserError(complaint(trained));
  }
  if (options.signal?.aborted || trained.out.includes('continue with:')) throw new UserError('stopped');
  const results: CellResult = {
    label: cell.variant.label,
    seed: cell.seed,
    experiments: experimentsOf(cell),
    asked: sweep.tests,
    commit: versions().commit,
    machine: `${cpus()[0]?.model.trim() ?? 'unknown'}, ${threads} threads, ${cell.config.device}`,
    seconds: Math.round(trainingSeconds(directory)),
    tests: {},
    protocols: {},
  };
  const tests = [{ name: ownTest, set: {} }, ...sweep.tests];
  for (const { name, set } of tests) {
    if (name === ownTest && !heldOut(cell.config)) continue;
    const changes = Object.entries(set).flatMap(([key, value]) => [
      '--set',
      `${key}=${JSON.stringify(value)}`,
    ]);
    const tested = await run(['eval', directory, '--json', ...changes], threads, options.signal);
    if (tested.code !== 0) throw new UserError(`test ${name}: ${complaint(tested)}`);
    const { versions: found, protocol } = figuresOf(tested.out);
    results.tests[name] = found;
    results.protocols[name] = protocol;
  }
  writeResult(options.results, cell, results);
  return results;
}

const heldOut = ({ data, evaluate }: Config) => data.held_out_identities > 0 || evaluate.pairs !== null;

/** @throws UserError if a cell would be trained for nothing: attributes alone are not verified */
export function refuseUntested({ file, cells, tests }: LoadedSweep): void {
  if (tests.some(({ set }) => typeof set['evaluate.pairs'] === 'string')) return;
  const cell = cells.find(({ config }) => config.stage !== 'attributes' && !heldOut(config));
  if (cell)
    throw new UserError(
      `${file}: expected pairs to test on (--set evaluate.pairs=FILE, or data.held_out_identities above 0), found none for cell ${cell.id}`,
    );
}

export interface Outcome {
  done: number;
  /** Cells that failed, and why. */
  failed: { cell: string; reason: string }[];
}

/** Runs cells, `jobs` at a time, in their order. One that fails stops no other, but those that start from its run. */
export async function runCells(
  sweep: LoadedSweep,
  cells: readonly Cell[],
  options: RunOptions,
  afterEach: () => Promise<void>,
): Promise<Outcome> {
  const outcome: Outcome = { done: 0, failed: [] };
  const queue = [...cells];
  const begun = new Map<string, Promise<void>>();
  const attempt = async (cell: Cell) => {
    // What it starts from comes before it, so another worker has it.
    await begun.get(cell.start?.id ?? '');
    try {
      const { seconds } = await runCell(sweep, cell, options);
      outcome.done++;
      options.onLine(`${cell.id}: done, ${seconds} s of training`);
      await afterEach();
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      if (options.signal?.aborted) return;
      outcome.failed.push({ cell: cell.id, reason: error.message });
      options.onLine(`${cell.id}: FAILED: ${error.message}`);
    }
  };
  const worker = async () => {
    for (let cell = queue.shift(); cell && !options.signal?.aborted; cell = queue.shift()) {
      begun.set(cell.id, attempt(cell));
      await begun.get(cell.id);
    }
  };
  await Promise.all(Array.from({ length: Math.min(options.jobs, cells.length) }, worker));
  return outcome;
}
