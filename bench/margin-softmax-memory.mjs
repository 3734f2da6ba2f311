// Memory of the margin softmax with very many identities: forward and backward with N = 1,000,000 prototypes of D = 512 and a
// batch of 64 on the CPU must stay within prototypes + gradient + 200 MB of native memory. The process's own peak is printed too.
// usage: node bench/margin-softmax-memory.mjs [IDENTITIES]   Ends with status 1 beyond the limit. A result: the .txt beside it.
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { add, device, marginSoftmax, mean, parameter, scope, Tape, tensor } from '../dist/index.js';
import { Draws } from '../dist/tensor/philox.js';

const [identities, size, samples, groups] = [Number(process.argv[2] ?? 1_000_000), 512, 64, 16];
const allowed = 200e6; // bytes beyond prototypes and gradient
const cpu = device('cpu');
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1).padStart(8)} MB`;
const resident = (key) =>
  1024 * Number(new RegExp(`${key}:\\s+(\\d+) kB`).exec(readFileSync('/proc/self/status', 'utf8'))?.[1]);

const draws = new Draws(1, 0, 0, 0);
const random = (shape, deviation = 1) =>
  tensor(
    Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => deviation * draws.normal()),
    shape,
  );

const before = resident('VmRSS');
// A row plus a column of random numbers: every prototype differs, and no copy of them is needed on the host.
const prototypes = parameter(
  scope(() => {
    const [rows, columns] = [random([identities, 1], 0.5), random([1, size])];
    return add(rows, columns);
  }),
);
const g = parameter(random([samples, size], 0.2));
const labels = tensor(Int32Array.from({ length: samples }, (_, i) => (i * 7919) % identities));
cpu.configure({ resetPeak: true });

const start = performance.now();
const loss = scope(() => {
  const tape = new Tape();
  const y = tape.record(() => mean(marginSoftmax(g, prototypes, labels, { groups, margin: 30 }).loss));
  tape.backward(y);
  return y.item();
});
const seconds = (performance.now() - start) / 1000;

const { peak, scratchPeak, threads } = cpu.statistics();
const both = 2 * identities * size * 4;
const beyond = peak - both;
console.log(
  `${cpus()[0]?.model}, ${threads} threads; N ${identities}, D ${size}, batch ${samples}, K ${groups}`,
);
console.log(`prototypes and gradient  ${megabytes(both)}`);
console.log(
  `peak of native memory    ${megabytes(peak)}, ${megabytes(beyond).trim()} beyond them (limit ${allowed / 1e6} MB)`,
);
console.log(`temporary memory         ${megabytes(scratchPeak)} in the kernel that used most`);
console.log(`process, resident peak   ${megabytes(resident('VmHWM') - before)} above its start`);
console.log(`forward and backward     ${seconds.toFixed(1)} s, mean loss ${loss.toFixed(4)}`);
process.exitCode = beyond <= allowed && Number.isFinite(loss) ? 0 : 1;
