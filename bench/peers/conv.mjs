// Convolutions beside PyTorch, float32, alternating between the two in one run so that a busy machine disturbs both alike.
// usage: node bench/peers/conv.mjs [PATTERN]   TURL_PYTHON names a Python with torch (default /usr/bin/python3).
// Prints CSV: case, direction, GFLOP/s of turl and of PyTorch (fastest of TURL_ROUNDS rounds), their ratio, and the machine.
// bench/convolution.csv keeps such a run; the load beside it halves or worse what a machine gives, so read the ratio there.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { device, empty } from '../../dist/index.js';
import { randomTensor } from '../../dist/testing.js';

const batch = 64;
const cases = [
  { name: 'first layer 3->32', size: 56, channels: 3, out: 32 },
  { name: '32@56', size: 56, channels: 32, out: 32 },
  { name: '32@56 s2', size: 56, channels: 32, out: 32, stride: 2 },
  { name: '32->64 @28', size: 28, channels: 32, out: 64 },
  { name: '64@28', size: 28, channels: 64, out: 64 },
  { name: '64@28 s2', size: 28, channels: 64, out: 64, stride: 2 },
  { name: '128@14', size: 14, channels: 128, out: 128 },
  { name: '128@14 s2', size: 14, channels: 128, out: 128, stride: 2 },
  { name: '256@7', size: 7, channels: 256, out: 256 },
  { name: '256@7 s2', size: 7, channels: 256, out: 256, stride: 2 },
  { name: '32->64 1x1 s2', size: 56, channels: 32, out: 64, kernel: 1, stride: 2, padding: 0 },
  { name: '128->256 1x1', size: 14, channels: 128, out: 256, kernel: 1, padding: 0 },
  { name: 'depthwise 128@28', size: 28, channels: 128, out: 128, groups: 128 },
  { name: 'depthwise 128@28 s2', size: 28, channels: 128, out: 128, groups: 128, stride: 2 },
];
const rounds = Number(process.env.TURL_ROUNDS ?? 7);
const cpu = device('cpu');
const { threads, description } = cpu.statistics();
const machine = `${description.replaceAll(',', ';')}; load ${loadavg()[0]?.toFixed(1)}`;
const torch = spawn(
  process.env.TURL_PYTHON ?? '/usr/bin/python3',
  [join(import.meta.dirname, 'torch_conv.py'), `${threads}`],
  { stdio: ['pipe', 'pipe', 'inherit'] },
);
const answers = createInterface({ input: torch.stdout })[Symbol.asyncIterator]();

console.log('case,direction,turl_gflops,torch_gflops,ratio,machine');
for (const { name, size, channels, out, kernel = 3, stride = 1, padding = 1, groups = 1 } of cases) {
  if (!name.includes(process.argv[2] ?? '')) continue;
  const outSize = Math.floor((size + 2 * padding - kernel) / stride) + 1;
  const x = randomTensor([batch, size, size, channels], 1);
  const weight = randomTensor([out, kernel, kernel, channels / groups], 2);
  const dy = randomTensor([batch, outSize, outSize, out], 3);
  const [y, dx, dweight] = [dy, x, weight].map((t) => empty(t.shape));
  const sizes = [batch, size, size, channels, out, kernel, kernel, stride, padding, groups];
  const directions = {
    forward: () => cpu.kernels.conv2d_forward(y, x, weight, ...sizes),
    backward_data: () => cpu.kernels.conv2d_backward_data(dx, dy, weight, ...sizes),
    backward_weight: () => cpu.kernels.conv2d_backward_weight(dweight, dy, x, ...sizes),
  };
  const ours = {};
  const theirs = {};
  for (let round = 0; round <= rounds; round++) {
    torch.stdin.write(JSON.stringify({ batch, size, channels, out, kernel, stride, padding, groups }) + '\n');
    const answer = JSON.parse((await answers.next()).value);
    for (const [direction, run] of Object.entries(directions)) {
      const start = performance.now();
      run();
      const seconds = (performance.now() - start) / 1000;
      if (round === 0) continue; // warm-up
      ours[direction] = Math.min(ours[direction] ?? Infinity, seconds);
      theirs[direction] = Math.min(theirs[direction] ?? Infinity, answer[direction]);
    }
  }
  const gflop = (2 * batch * outSize * outSize * out * kernel * kernel * channels) / groups / 1e9;
  for (const direction of Object.keys(directions)) {
    const [a, b] = [gflop / ours[direction], gflop / theirs[direction]];
    console.log(`${name},${direction},${a.toFixed(0)},${b.toFixed(0)},${(a / b).toFixed(2)},${machine}`);
  }
  for (const t of [x, weight, dy, y, dx, dweight]) t.dispose();
}
torch.stdin.end();
