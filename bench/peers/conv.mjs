// Convolutions beside oneDNN, alternating between the two in one run so that a busy machine disturbs both alike.
// usage: node bench/peers/conv.mjs [PATTERN] [bfloat16]   Float32 without the second. Needs g++ and oneDNN 2 (Debian: libdnnl-dev), which PyTorch uses on a CPU.
// Prints CSV: case, direction, GFLOP/s of turl (images in NHWC), of oneDNN by Winograd and directly in the memory layouts that it likes
// best, and by its own choice in NHWC; the ratio of turl to the best of those three: median over TURL_ROUNDS (default 7) rounds, each of
// which compares neighbours; the smallest and largest of these; the machine; and the share of the arithmetic rate (of multiply-adds, or
// of matrix units in bfloat16 where there are some) that a run just before reached. bench/convolution.csv keeps such runs, one machine after the other.
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';
import { device, empty } from '../../dist/index.js';
import { randomTensor } from '../../dist/testing.js';

const batch = 64;
const cases = [
  { name: 'first layer 3->64 @112', size: 112, channels: 3, out: 64 },
  { name: '64@112', size: 112, channels: 64, out: 64 },
  { name: '64@112 s2', size: 112, channels: 64, out: 64, stride: 2 },
  { name: '64@56', size: 56, channels: 64, out: 64 },
  { name: '128@56 s2', size: 56, channels: 128, out: 128, stride: 2 },
  { name: '128@28', size: 28, channels: 128, out: 128 },
  { name: '256@28 s2', size: 28, channels: 256, out: 256, stride: 2 },
  { name: '256@14', size: 14, channels: 256, out: 256 },
  { name: '512@14 s2', size: 14, channels: 512, out: 512, stride: 2 },
  { name: '512@7', size: 7, channels: 512, out: 512 },
  { name: '64->128 1x1 s2 @56', size: 56, channels: 64, out: 128, kernel: 1, stride: 2 },
  { name: '32@56', size: 56, channels: 32, out: 32 },
  { name: '64@28', size: 28, channels: 64, out: 64 },
  { name: '128@14', size: 14, channels: 128, out: 128 },
  { name: '256@7', size: 7, channels: 256, out: 256 },
  { name: '64->128 1x1 @28', size: 28, channels: 64, out: 128, kernel: 1 },
  { name: '128->64 1x1 @28', size: 28, channels: 128, out: 64, kernel: 1 },
  { name: '128->256 1x1 @14', size: 14, channels: 128, out: 256, kernel: 1 },
  { name: 'depthwise 64@56', size: 56, channels: 64, out: 64, groups: 64 },
  { name: 'depthwise 128@56 s2', size: 56, channels: 128, out: 128, stride: 2, groups: 128 },
  { name: 'depthwise 128@28', size: 28, channels: 128, out: 128, groups: 128 },
  { name: 'depthwise 256@14', size: 14, channels: 256, out: 256, groups: 256 },
];
const directions = ['forward', 'backward_data', 'backward_weight'];
const [pattern = '', dtype = 'float32'] = process.argv.slice(2);
const rounds = Number(process.env.TURL_ROUNDS ?? 7);
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

const cpu = device('cpu');
const { threads, description, matrixUnits } = cpu.statistics();
const machine = `${description.replaceAll(',', ';')}; load ${loadavg()[0]?.toFixed(1)}`;
const folder = mkdtempSync(join(tmpdir(), 'turl-onednn-'));
const program = join(folder, 'onednn_conv');
const source = join(import.meta.dirname, 'onednn_conv.cpp');
try {
  execFileSync('g++', ['-O2', '-std=c++17', source, '-ldnnl', '-o', program], { stdio: 'pipe' });
} catch {
  rmSync(folder, { recursive: true });
  console.error(
    `the peer is absent: ${source} was not built; it expects g++ and oneDNN 2 (Debian: libdnnl-dev)`,
  );
  process.exit(2);
}
const peer = spawn(program, [dtype], {
  env: { ...process.env, OMP_NUM_THREADS: `${threads}` },
  stdio: ['pipe', 'pipe', 'inherit'],
});
const answers = createInterface({ input: peer.stdout })[Symbol.asyncIterator]();

// What the arithmetic units do, of which a busy machine lends now more and now less: operations and a kernel that does them.
const onUnits = dtype === 'bfloat16' && matrixUnits;
const tiles = 64 * threads;
const ceiling = onUnits
  ? {
      gflop: (2 * tiles * 16 * 8 * 16 * 4096) / 1e9,
      arrays: [
        empty([tiles, 16, 8]),
        randomTensor([16, 16], 1, { dtype }),
        randomTensor([16, 8], 2, { dtype }),
      ],
      run: ([y, a, b]) => cpu.kernels.matrix_rate(y, a, b, 4096),
    }
  : {
      gflop: (2 * threads * 16384 * 8192) / 1e9,
      arrays: [empty([threads * 16384]), randomTensor([threads * 16384], 1)],
      run: ([y, x]) => cpu.kernels.multiply_add_rate(y, x, 8192),
    };
/** What `f` takes, in seconds: the median of as many runs as 10 ms hold, or of one, as the peer does. */
const timed = (f) => {
  const runs = [];
  for (let all = 0; all < 0.01; all += runs.at(-1)) {
    const start = performance.now();
    f();
    runs.push((performance.now() - start) / 1000);
  }
  return median(runs);
};

console.log(
  'case,direction,turl_gflops,winograd_gflops,direct_gflops,nhwc_gflops,ratio,least,most,machine,share',
);
for (const { name, size, channels, out, kernel = 3, stride = 1, groups = 1 } of cases) {
  if (!name.includes(pattern)) continue;
  const padding = kernel >> 1;
  const outSize = Math.floor((size + 2 * padding - kernel) / stride) + 1;
  const x = randomTensor([batch, size, size, channels], 1, { dtype });
  const weight = randomTensor([out, kernel, kernel, channels / groups], 2, { dtype });
  const dy = randomTensor([batch, outSize, outSize, out], 3, { dtype });
  const [y, dx] = [dy, x].map((t) => empty(t.shape, { dtype }));
  const dweight = empty(weight.shape);
  const sizes = [batch, size, size, channels, out, kernel, kernel, stride, padding, groups];
  const run = {
    forward: () => cpu.kernels.conv2d_forward(y, undefined, x, weight, ...sizes),
    backward_data: () => cpu.kernels.conv2d_backward_data(dx, dy, weight, ...sizes),
    backward_weight: () => cpu.kernels.conv2d_backward_weight(dweight, dy, x, ...sizes),
  };
  const ours = directions.map(() => []);
  const rates = directions.map(() => []); // of the units, in GFLOP/s
  const theirs = directions.map(() => []); // of each round: seconds by Winograd, directly, in NHWC
  for (let round = -2; round < rounds; round++) {
    peer.stdin.write([batch, size, channels, out, kernel, stride, padding, groups].join(' ') + '\n');
    const seconds = (await answers.next()).value.trim().split(' ').map(Number);
    await setTimeout(50); // the peer's threads go on waiting for work for a while, on our cores
    directions.forEach((direction, i) => {
      const rate = ceiling.gflop / timed(() => ceiling.run(ceiling.arrays));
      const own = timed(run[direction]);
      if (round < 0) return; // warming up
      ours[i].push(own);
      rates[i].push(rate);
      theirs[i].push([0, 3, 6].map((way) => (seconds[way + i] < 0 ? Infinity : seconds[way + i])));
    });
  }
  const gflop = (2 * batch * outSize * outSize * out * kernel * kernel * channels) / groups / 1e9;
  directions.forEach((direction, i) => {
    const others = [0, 1, 2].map((way) => (gflop / median(theirs[i].map((round) => round[way]))).toFixed(0));
    const ratios = ours[i].map((seconds, round) => Math.min(...theirs[i][round]) / seconds);
    const share = median(ours[i].map((seconds, round) => gflop / seconds / rates[i][round])).toFixed(2);
    const summary = [median(ratios), Math.min(...ratios), Math.max(...ratios)].map((ratio) =>
      ratio.toFixed(2),
    );
    console.log(
      [
        dtype === 'float32' ? name : `${name} ${dtype}`,
        direction,
        (gflop / median(ours[i])).toFixed(0),
        ...others,
        ...summary,
        machine,
        share,
      ].join(','),
    );
  });
  for (const t of [x, weight, dy, y, dx, dweight]) t.dispose();
}
peer.stdin.end();
rmSync(folder, { recursive: true });
