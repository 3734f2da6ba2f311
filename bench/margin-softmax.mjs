// Time and memory of the margin softmax, forward and backward (native/*/margin_softmax.*).
// usage: node bench/margin-softmax.mjs [--classes 10000] [--size 256] [--samples 64] [--groups 16] [--device cpu] [--runs 20]
//                                      [--peer]   also times PyTorch ($PYTHON or python3, with torch) on the same shapes, in turns
//                                      [--record] appends the row to bench/history.csv
// Rate: 8 B N D operations (one product forward, three backward). Memory: live bytes at the peak beside prototypes and gradient.
import { execFileSync } from 'node:child_process';
import { appendFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { device as open } from '../dist/tensor/device.js';
import { empty, tensor } from '../dist/tensor/tensor.js';
import { randomValues } from '../dist/testing.js';

const { values } = parseArgs({
  options: {
    classes: { type: 'string', default: '10000' },
    size: { type: 'string', default: '256' },
    samples: { type: 'string', default: '64' },
    groups: { type: 'string', default: '16' },
    runs: { type: 'string', default: '20' },
    device: { type: 'string', default: 'cpu' },
    peer: { type: 'boolean', default: false },
    record: { type: 'boolean', default: false },
  },
});
const [N, D, B, K, runs] = ['classes', 'size', 'samples', 'groups', 'runs'].map((key) => Number(values[key]));
const device = open(values.device);
const { kernels } = device;

/** Pseudo-random numbers; beyond a million they repeat. */
function random(shape, seed) {
  const n = shape.reduce((a, b) => a * b, 1);
  const array = new Float32Array(n);
  array.set(randomValues(Math.min(n, 1 << 20), seed));
  for (let filled = 1 << 20; filled < n; filled *= 2)
    array.copyWithin(filled, 0, Math.min(filled, n - filled));
  return tensor(array, shape, { device });
}
const g = random([B, D], 1);
const w = random([N, D], 2);
const dloss = random([B], 3);
const labels = tensor(
  Int32Array.from({ length: B }, (_, i) => (i * 7919) % N),
  [B],
  { device },
);
const make = (...shape) => empty(shape, { device });
const dw = make(N, D);
device.configure({ resetPeak: true });
const before = device.statistics().live;
const [loss, logsumexp, hit, dg] = [make(B), make(B), make(B), make(B, D)];

function step() {
  const start = performance.now();
  kernels.margin_softmax_forward(loss, logsumexp, hit, g, w, labels, B, N, D, K, 30, 1e-12);
  device.synchronize();
  const middle = performance.now();
  kernels.margin_softmax_backward(dg, dw, dloss, loss, logsumexp, g, w, labels, B, N, D, K, 1e-12);
  device.synchronize();
  return [middle - start, performance.now() - middle];
}
const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];
const peerScript = path.join(import.meta.dirname, 'peers', 'margin_softmax_torch.py');
const peer = () =>
  Number(
    execFileSync(
      process.env.PYTHON ?? 'python3',
      [peerScript, ...[B, N, D, K, Math.min(runs, 10)].map(String)],
      { encoding: 'utf8' },
    ),
  );

step();
const times = [];
const peers = [];
for (let round = 0; round < (values.peer ? 3 : 1); round++) {
  for (let i = 0; i < runs; i++) times.push(step());
  if (values.peer) peers.push(peer());
}
const forward = median(times.map(([a]) => a));
const backward = median(times.map(([, b]) => b));
const { peak, scratchPeak, description } = device.statistics();
const row = {
  date: new Date().toISOString().slice(0, 10),
  commit: execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim(),
  device: description.replaceAll(',', ';'),
  case: 'margin_softmax forward+backward',
  shape: `B=${B} N=${N} D=${D} K=${K} float32`,
  milliseconds: (forward + backward).toFixed(2),
  rate: `${((8 * B * N * D) / (forward + backward) / 1e6).toFixed(1)} GFLOP/s`,
  note: [
    `forward ${forward.toFixed(2)}; backward ${backward.toFixed(2)} ms`,
    `${((peak - before + scratchPeak) / 2 ** 20).toFixed(1)} MiB beside prototypes and gradient`,
    ...(peers.length > 0 ? [`PyTorch ${median(peers).toFixed(2)} ms in turns`] : []),
  ].join('; '),
};
console.log(row);
if (values.record)
  appendFileSync(path.join(import.meta.dirname, 'history.csv'), `${Object.values(row).join(',')}\n`);
