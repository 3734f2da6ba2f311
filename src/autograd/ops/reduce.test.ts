import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { checkGradients } from '../gradient-check.js';
import { assertClose, devices, leaf, randomTensor } from '../../testing.js';
import { Tape } from '../tape.js';
import { full, parameter, tensor, zeros } from '../../tensor/tensor.js';
import { scope } from '../../tensor/scope.js';
import { stridesOf } from '../../tensor/shape.js';
import { max, mean, sum } from './reduce.js';

const test = suite('reduce');

const cases: [number[], number[] | undefined][] = [
  [[7], undefined],
  [[3, 5, 4], [1]],
  [[3, 5, 4], [0]],
  [[3, 5, 4], [-1]],
  [
    [3, 5, 4],
    [0, 2],
  ],
  [
    [2, 3, 4, 5],
    [0, 1, 3],
  ],
  [[1, 1], undefined],
  [[100003], undefined],
  [[5, 30001], [1]],
  [[9001, 3], [0]],
  [[301, 300], [0]],
  [[4, 3], []],
];

/** For each element of x the element of the reduced result it belongs to. */
function destinations(shape: readonly number[], axes: readonly number[]): number[] {
  const kept = shape.map((n, i) => (axes.includes(i) ? 1 : n));
  const [from, to] = [stridesOf(shape), stridesOf(kept)];
  const size = shape.reduce((a, b) => a * b, 1);
  return Array.from({ length: size }, (_, i) =>
    shape.reduce(
      (at, n, d) =>
        at + (axes.includes(d) ? 0 : (Math.floor(i / (from[d] as number)) % n) * (to[d] as number)),
      0,
    ),
  );
}

for (const device of devices)
  for (const dtype of ['float32', 'bfloat16'] as const)
    test(`${dtype} on ${device.name}: sum, mean, max and their gradients equal the definition`, () => {
      for (const [shape, axes] of cases)
        scope(() => {
          const list = (axes ?? shape.map((_, i) => i)).map((a) => (a < 0 ? a + shape.length : a));
          const x = parameter(randomTensor(shape, 3, { device, dtype }));
          const xs = x.toArray();
          const to = destinations(shape, list);
          const length = to.reduce((a, b) => Math.max(a, b), 0) + 1;
          const total = new Float64Array(length);
          const first = new Int32Array(length).fill(-1);
          xs.forEach((v, i) => {
            const t = to[i] as number;
            total[t] = (total[t] as number) + v;
            const best = first[t] as number;
            if (best < 0 || v > (xs[best] as number)) first[t] = i;
          });
          const count = xs.length / length;
          // Sums are formed in double or compensated: one rounding to the type remains.
          const tolerance = dtype === 'float32' ? 3e-7 : 5e-3;
          for (const [op, expected, weight] of [
            [sum, total, () => 1],
            [mean, total.map((t) => t / count), () => 1 / count],
            [
              max,
              Array.from(first, (i) => xs[i] as number),
              (i: number) => (first[to[i] as number] === i ? 1 : 0),
            ],
          ] as const) {
            const tape = new Tape();
            const y = tape.record(() => op(x, axes));
            assertClose(y.toArray(), expected, tolerance, `${op.name} ${shape.join()} over ${list.join()}`);
            const dy = randomTensor(y.shape, 5, { device, dtype });
            const g = dy.toArray();
            tape.backward(y, dy);
            assertClose(
              x.grad?.toArray() ?? [],
              Array.from(to, (t, i) => (g[t] as number) * weight(i)),
              tolerance,
              `${op.name} dx`,
            );
            x.grad?.dispose();
            x.grad = undefined;
          }
        });
    });

test('gradients equal finite differences', () => {
  // Sums are linear; the maxima are apart by more than the step.
  for (const op of [sum, mean, max]) checkGradients((x) => op(x, [0, 2], true), [leaf([3, 4, 5], 3)]);
});

for (const device of devices)
  test(`on ${device.name}: keepDims, the first of equal maxima, NaN, empty and one-sided sums`, () => {
    assert.equal(sum(zeros([2, 3, 4], { device }), [0, 2], true).shape, [1, 3, 1]);
    assert.equal(sum(zeros([2, 3, 4], { device }), [0, 2]).shape, [3]);
    const x = parameter(tensor([1, 2, 2, NaN, 5, 6], [2, 3], { device }));
    const tape = new Tape();
    const y = tape.record(() => max(x, 1));
    assertClose(y.toArray(), [2, NaN], 0);
    tape.backward(y, tensor([3, 4], [2], { device }));
    assertClose(x.grad?.toArray() ?? [], [0, 3, 0, 4, 0, 0], 0);
    // Long enough for vectors: the first of the NaN, wherever larger numbers are; without one the first of the largest.
    const row = Array.from({ length: 100 }, (_, i) => (i % 9 === 8 ? Infinity : -i));
    for (const nans of [[70, 37], [99], []])
      for (const axes of [1, 0]) {
        const values = row.map((v, i) => (nans.includes(i) ? NaN : v));
        const twice = axes === 1 ? [...values, ...values] : values.flatMap((v) => [v, v]);
        const long = parameter(tensor(twice, axes === 1 ? [2, 100] : [100, 2], { device }));
        const tape = new Tape();
        const largest = tape.record(() => max(long, axes));
        tape.backward(largest, tensor([1, 1], [2], { device }));
        const at = Array.from(long.grad?.toArray() ?? []).flatMap((v, i) => (v === 1 ? [i] : []));
        const place = Math.min(...(nans.length > 0 ? nans : [8]));
        assert.equal(at, axes === 1 ? [place, 100 + place] : [2 * place, 2 * place + 1]);
      }
    assertClose(sum(zeros([0, 3], { device }), 0).toArray(), [0, 0, 0], 0);
    assert.is(sum(zeros([3, 0], { device }), 0).size, 0);
    assertClose(mean(zeros([0], { device })).toArray(), [NaN], 0);
    // 200,000 terms of 0.1: naive float32 addition would be off by 1e-4 and more.
    assertClose(sum(full([200000], 0.1, { device })).toArray(), [200000 * Math.fround(0.1)], 2e-7);
  });

test('the sum has the same bits with one thread and with two', () => {
  const cpu = devices.find((d) => d.name === 'cpu');
  if (!cpu) return;
  const { threads } = cpu.statistics();
  const x = randomTensor([1000, 301], 9);
  const results = [1, 2, 3].map((n) => {
    cpu.configure({ threads: n });
    return [sum(x).toArray(), sum(x, 0).toArray(), sum(x, 1).toArray()];
  });
  cpu.configure({ threads });
  assert.equal(results[0], results[1]);
  assert.equal(results[0], results[2]);
});

test('wrong axes are refused', () => {
  assert.throws(() => sum(zeros([2, 3]), 2), /sum: expected an axis below 2, got 2/);
  assert.throws(() => max(zeros([0, 3]), 0), /max: expected axes with at least one element/);
});

test.run();
