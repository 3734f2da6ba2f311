// Images per second of a training step beside PyTorch's: small IResNet (56x56, channels 32/64/128/256, two blocks a stage, D = 256),
// 10,000 identities, the full method (K = 16, M = 3), float32, batch 64, two threads. Batches lie ready in memory: no loader. Ours
// takes bytes and augments them (crop, blur, occlusion, normalisation); the peer takes float images. Both run in turn, A B A B,
// since machines are shared; ratios compare neighbours. Time outside native calls is the dispatch from TypeScript.
// usage: node bench/step.mjs [--rounds 5] [--steps 3] [--threads 2] [--record]   --record appends the row to bench/history.csv
import { execFileSync, spawn } from 'node:child_process';
import { appendFileSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';

const root = path.dirname(import.meta.dirname);
const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    steps: { type: 'string', default: '3' },
    threads: { type: 'string', default: '2' },
    record: { type: 'boolean', default: false },
  },
});
const [rounds, steps, threads] = [options.rounds, options.steps, options.threads].map(Number);
const [samples, identities, side, warmup] = [64, 10_000, 56, 2];

// Every function of the addon is timed from here on, kernels included.
const addon = createRequire(import.meta.url)(path.join(root, 'build/Release/turl.node'));
const clock = { native: 0, calls: 0 };
const timed =
  (f) =>
  (...args) => {
    const start = performance.now();
    try {
      return f(...args);
    } finally {
      clock.native += performance.now() - start;
      clock.calls++;
    }
  };
const timedAll = (functions) =>
  Object.fromEntries(Object.entries(functions).map(([name, f]) => [name, timed(f)]));
const openDevice = addon.openDevice;
Object.assign(addon, timedAll(addon), {
  openDevice: (...args) => {
    const opened = openDevice(...args);
    return { ...opened, kernels: timedAll(opened.kernels) };
  },
});

const { configFrom } = await import('../dist/config/index.js');
const { augmentColumns, encodeAugmentation } = await import('../dist/data/augment.js');
const { Draws } = await import('../dist/tensor/philox.js');
const { Experiment } = await import('../dist/train/experiment.js');

function ours() {
  const config = configFrom({
    model: { name: 'iresnet-small', input_size: side, embedding_size: 256 },
    data: { source: 'synthetic', identities, image_size: side },
    optimizer: { lr: 0.01 },
    train: { batch_size: samples },
  });
  const experiment = new Experiment(config, identities);
  experiment.device.configure({ threads });
  const draws = new Draws(1, 0, 0, 0);
  const variations = Float32Array.from({ length: samples * 3 }, () => Number(draws.uniform() < 0.3));
  const augmentation = new Int32Array(samples * augmentColumns);
  for (let i = 0; i < samples; i++) {
    const [blurred, occluded] = variations.subarray(3 * i);
    const blocks = Array.from({ length: occluded * 15 }, () => draws.int(49));
    encodeAugmentation(augmentation, i, {
      top: 0,
      left: 0,
      flip: i % 2 === 1,
      blur: blurred * 7,
      occluded: blocks,
    });
  }
  const batch = {
    pixels: Uint8Array.from({ length: samples * side * side * 3 }, () => draws.int(256)),
    labels: Int32Array.from({ length: samples }, () => draws.int(identities)),
    augmentation,
    variations,
  };
  let step = 0;
  const run = (count) =>
    Array.from({ length: count }, () => {
      const start = performance.now();
      experiment.update([batch], step++, 1000);
      return (performance.now() - start) / 1000;
    });
  return { run, device: experiment.device };
}

/** The peer process, or the reason why there is none. */
async function openPeer() {
  const wide = readFileSync('/proc/cpuinfo', 'utf8').includes('avx512f');
  const child = spawn(
    '/usr/bin/python3',
    [path.join(root, 'bench/peers/torch_step.py'), '--threads', `${threads}`],
    {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: {
        ...process.env,
        MALLOC_MMAP_THRESHOLD_: '17179869184',
        MALLOC_TRIM_THRESHOLD_: '17179869184',
        GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1',
        ...(wide ? { ATEN_CPU_CAPABILITY: 'avx512' } : {}),
      },
    },
  );
  let complaint = '';
  child.stderr.on('data', (data) => (complaint += data));
  child.on('error', (error) => (complaint += error.message));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async () => {
    const { value, done } = await lines.next();
    return done ? undefined : JSON.parse(value);
  };
  const hello = await answer();
  if (!hello) return { absent: complaint.trim().split('\n').at(-1) ?? 'it said nothing' };
  const run = async (count) => {
    child.stdin.write(`run ${count}\n`);
    const times = await answer();
    if (!times) throw new Error(`the peer ended: ${complaint}`);
    return times;
  };
  return { name: hello.peer, run, close: () => child.stdin.end() };
}

const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
};

const turl = ours();
const peer = await openPeer();
turl.run(warmup);
await peer.run?.(warmup);
const [own, other] = [[], []];
Object.assign(clock, { native: 0, calls: 0 });
for (let round = 0; round < rounds; round++) {
  own.push(turl.run(steps));
  if (peer.run) other.push(await peer.run(steps));
}
peer.close?.();

const rate = (times) => samples / median(times);
const total = own.flat().reduce((a, b) => a + b, 0);
const dispatch = 1 - clock.native / 1000 / total;
const figures = [`turl ${rate(own.flat()).toFixed(1)} images/s`];
if (peer.run) {
  const pairs = own.map((times, i) => rate(times) / rate(other[i]));
  figures.push(
    `${peer.name} ${rate(other.flat()).toFixed(1)} images/s`,
    `ratio ${(rate(own.flat()) / rate(other.flat())).toFixed(2)}`,
    `by rounds ${Math.min(...pairs).toFixed(2)} to ${Math.max(...pairs).toFixed(2)}`,
  );
} else figures.push(`PyTorch absent (${peer.absent})`);
figures.push(
  `outside native calls ${(100 * dispatch).toFixed(2)} %`,
  `${Math.round(clock.calls / own.flat().length)} native calls a step`,
);
const git = (...args) => execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim();
const [processor, isa] = turl.device.statistics().description.split(', ');
const row = {
  date: new Date().toISOString().slice(0, 10),
  commit: git('rev-parse', '--short', 'HEAD'),
  device: `${processor}; ${isa}; ${threads} threads`,
  case: 'training step; full method; float32',
  shape: `small IResNet 56x56 B=${samples} N=${identities} D=256 K=16 M=3`,
  milliseconds: (1000 * median(own.flat())).toFixed(2),
  rate: `${rate(own.flat()).toFixed(1)} images/s`,
  note: figures.slice(1).join('; '),
};
for (const figure of [row.device, row.shape, ...figures]) console.log(figure);
if (options.record) appendFileSync(path.join(root, 'bench/history.csv'), `${Object.values(row).join(',')}\n`);
