// The same training step elsewhere, in a process of its own that runs steps when it is asked to: in PyTorch (bench/peers/torch_step.py),
// or in another turl (`turl bench step --as-peer`).
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import * as z from 'zod';
import type { Config } from '../config/index.js';
import { activeVariations } from '../method/variations.js';
import { iresnetBlocks } from '../nn/iresnet.js';
import { UserError } from '../tensor/errors.js';

const here = join(import.meta.dirname, '../..');
const script = join(here, 'bench/peers/torch_step.py');

export interface Peer {
  readonly name: string;
  /** Seconds of each of `count` steps. */
  run(count: number): Promise<number[]>;
  close(): void;
}

/** What it is called, and why it is not there. */
export interface Absent {
  readonly name: string;
  readonly absent: string;
}

/** The options of torch_step.py that stand for this experiment. */
export function peerArguments(config: Config, identities: number, threads: number): string[] {
  const { model, loss, precision, device, train, augment } = config;
  const small = model.name === 'iresnet-small';
  const layers =
    model.name === 'mobilefacenet'
      ? ['--model', 'mobilefacenet']
      : [
          ...['--channels', (small ? model.channels : [64, 128, 256, 512]).join(',')],
          ...[
            '--blocks',
            (model.name === 'iresnet-small' ? model.blocks : iresnetBlocks[model.name]).join(','),
          ],
        ];
  const numbers = {
    batch: train.batch_size,
    size: model.input_size,
    embedding: model.embedding_size,
    groups: loss.groups,
    variations: Math.max(1, activeVariations(augment).length),
    identities,
    threads,
  };
  return [
    ...layers,
    ...Object.entries(numbers).flatMap(([name, value]) => [`--${name}`, String(value)]),
    ...['--loss', loss.type === 'confidence-softmax' ? 'full' : 'cosface'],
    ...['--precision', precision, '--device', device === 'cuda' ? 'cuda' : 'cpu'],
  ];
}

/** The allocator and instruction set with which PyTorch is fastest on a CPU. */
function tuned(): Record<string, string> {
  const wide = readFileSync('/proc/cpuinfo', 'utf8').includes('avx512f');
  return {
    MALLOC_MMAP_THRESHOLD_: '17179869184',
    MALLOC_TRIM_THRESHOLD_: '17179869184',
    GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1',
    ...(wide ? { ATEN_CPU_CAPABILITY: 'avx512' } : {}),
  };
}

export interface PeerProgram {
  /** What it is called where it says nothing. */
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** PyTorch's step; TURL_PYTHON names a Python with torch. */
export const torchPeer = (name: string, args: readonly string[]): PeerProgram => ({
  name,
  command: process.env['TURL_PYTHON'] ?? '/usr/bin/python3',
  args: [script, ...args],
  env: tuned(),
});

/**
 * The step of another turl.
 * @param against a checkout that is built, or `VARIABLE=VALUE`: this one with that in its environment
 * @param args those of `turl bench step`
 */
export function turlPeer(against: string, args: readonly string[]): PeerProgram {
  const [, variable, value = ''] = /^([A-Za-z_]\w*)=(.*)$/.exec(against) ?? [];
  const folder = variable === undefined ? against : here;
  const program = join(folder, 'bin/turl.js');
  if (!existsSync(program) || !existsSync(join(folder, 'dist')))
    throw new UserError(
      `--against ${against}: expected a checkout that is built (bin/turl.js, dist/) or VARIABLE=VALUE, found neither`,
    );
  return {
    name: `turl ${variable === undefined ? 'of' : 'with'} ${against}`,
    command: process.execPath,
    args: [program, 'bench', 'step', ...args, '--as-peer'],
    env: variable === undefined ? {} : { [variable]: value },
  };
}

/** The line of what a program wrote to stderr that says why it ended: turl's sentence, or the last one of Python's. */
function reason(complaint: string): string {
  const lines = complaint.trim().split('\n');
  return (
    lines.find((line) => line.startsWith('turl: '))?.slice('turl: '.length) ??
    (lines.at(-1) || 'it gave no answer that turl can read')
  );
}

/** Starts the peer and takes two steps to warm up. */
export async function openPeer({ name, command, args, env }: PeerProgram): Promise<Peer | Absent> {
  const child = spawn(command, args, { stdio: 'pipe', env: { ...process.env, ...env } });
  let complaint = '';
  child.stderr.on('data', (data: Buffer) => (complaint += data.toString()));
  child.stdin.on('error', () => undefined);
  child.on('error', (error) => (complaint += error.message));
  const closed = new Promise((resolve) => child.once('close', resolve));
  /** Why it does not answer, once all that it says has arrived. */
  const end = async () => {
    child.kill();
    await closed;
    return reason(complaint);
  };
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async (): Promise<unknown> => {
    const line = await lines.next();
    return line.done === true ? undefined : JSON.parse(line.value);
  };
  const hello = z.object({ peer: z.string().optional() }).safeParse(await answer());
  const run = async (count: number) => {
    child.stdin.write(`run ${count}\n`);
    return z.array(z.number()).safeParse(await answer()).data;
  };
  if (!hello.success || !(await run(2))) return { name, absent: await end() };
  return {
    name: hello.data.peer ?? name,
    async run(count) {
      const times = await run(count);
      if (!times) throw new UserError(`${name} ended before its steps did: ${await end()}`);
      return times;
    },
    close: () => child.stdin.end(),
  };
}
