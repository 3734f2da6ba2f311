// The same training step in PyTorch, in a process of its own that runs steps when it is asked to (bench/peers/torch_step.py).
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import * as z from 'zod';
import type { Config } from '../config/index.js';
import { activeVariations } from '../method/variations.js';
import { iresnetBlocks } from '../nn/iresnet.js';

const script = join(import.meta.dirname, '../../bench/peers/torch_step.py');

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

/** Starts the peer and takes two steps to warm up; TURL_PYTHON names a Python with torch. */
export async function openPeer(args: readonly string[], name: string): Promise<Peer | Absent> {
  const python = process.env['TURL_PYTHON'] ?? '/usr/bin/python3';
  const child = spawn(python, [script, ...args], { stdio: 'pipe', env: { ...process.env, ...tuned() } });
  let complaint = '';
  child.stderr.on('data', (data: Buffer) => (complaint += data.toString()));
  child.stdin.on('error', () => undefined);
  child.on('error', (error) => (complaint += error.message));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async (): Promise<unknown> => {
    const line = await lines.next();
    return line.done === true ? undefined : JSON.parse(line.value);
  };
  const hello = z.object({ peer: z.string() }).safeParse(await answer());
  const run = async (count: number) => {
    child.stdin.write(`run ${count}\n`);
    return z.array(z.number()).safeParse(await answer()).data;
  };
  if (!hello.success || !(await run(2)))
    return { name, absent: complaint.trim().split('\n').at(-1) || 'it said nothing' };
  return {
    name: hello.data.peer,
    async run(count) {
      const times = await run(count);
      if (!times) throw new Error(`${hello.data.peer} ended: ${complaint}`);
      return times;
    },
    close: () => child.stdin.end(),
  };
}
