import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { checkGradients } from '../gradient-check.js';
import { assertClose, devices, leaf, randomTensor } from '../../testing.js';
import { tensor, zeros } from '../../tensor/tensor.js';
import { concat, reshape, slice, transpose } from './shape.js';
import { square } from './unary.js';

const test = suite('shape');

for (const device of devices)
  for (const dtype of ['float32', 'bfloat16'] as const)
    test(`${dtype} on ${device.name}: every element arrives at its place`, () => {
      const x = randomTensor([3, 4, 70], 3, { device, dtype });
      const xs = x.toArray();
      const at = (i: number, j: number, k: number) => xs[(i * 4 + j) * 70 + k] as number;
      const permuted = transpose(x, [2, 0, 1]);
      assert.equal(permuted.shape, [70, 3, 4]);
      assertClose(
        permuted.toArray(),
        Array.from({ length: x.size }, (_, n) => at(Math.floor(n / 4) % 3, n % 4, Math.floor(n / 12))),
        0,
      );
      const part = slice(x, 1, 1, 3);
      assert.equal(part.shape, [3, 2, 70]);
      assertClose(
        part.toArray(),
        Array.from({ length: 420 }, (_, n) => at(Math.floor(n / 140), 1 + (Math.floor(n / 70) % 2), n % 70)),
        0,
      );
      for (const axis of [0, 1, -1]) {
        const n = x.dim(axis);
        const joined = concat([slice(x, axis, 0, 1), slice(x, axis, 1, n), slice(x, axis, n, n)], axis);
        assertClose(joined.toArray(), xs, 0);
      }
      assert.is(slice(x, 0, 2, 2).size, 0);
      assert.is(transpose(slice(x, 0, 2, 2)).size, 0);
    });

// Larger than the blocks that transposes go by.
for (const device of devices)
  for (const order of [
    [1, 0, 2],
    [0, 2, 1],
    [2, 0, 1],
    [2, 1, 0],
    [1, 2, 0],
  ])
    test(`on ${device.name}: axes in the order ${order.join(', ')}`, () => {
      const x = randomTensor([19, 21, 35], 3, { device });
      const xs = x.toArray();
      const shape = order.map((axis) => x.dim(axis)) as [number, number, number];
      const strides = order.map((axis) => [735, 35, 1][axis]) as [number, number, number];
      const y = transpose(x, order);
      assert.equal(y.shape, shape);
      const expected = Array.from({ length: x.size }, (_, n) => {
        const [i, j, k] = [
          Math.floor(n / shape[2] / shape[1]),
          Math.floor(n / shape[2]) % shape[1],
          n % shape[2],
        ];
        return xs[i * strides[0] + j * strides[1] + k * strides[2]] as number;
      });
      assertClose(y.toArray(), expected, 0);
    });

test('reshape shares memory', () => {
  const x = tensor([1, 2, 3, 4, 5, 6]);
  const y = reshape(x, [2, -1]);
  assert.equal(y.shape, [2, 3]);
  x.set(Float32Array.of(7, 8, 9, 10, 11, 12));
  assertClose(y.toArray(), [7, 8, 9, 10, 11, 12], 0);
});

test('integers move too', () => {
  const x = tensor(Int32Array.of(1, 2, 3, 4, 5, 6), [2, 3]);
  assertClose(transpose(x).toArray(), [1, 4, 2, 5, 3, 6], 0);
  assertClose(slice(tensor(Uint8Array.of(1, 2, 3)), 0, 1, 3).toArray(), [2, 3], 0);
});

test('gradients equal finite differences', () => {
  // Quadratic functions: central differences are exact up to rounding.
  const x = leaf([3, 4, 5], 3);
  checkGradients((a) => square(reshape(a, [6, 10])), [x]);
  checkGradients((a) => square(transpose(a, [1, 2, 0])), [x]);
  checkGradients((a) => square(slice(a, -1, 1, 4)), [x]);
  checkGradients((a, b) => square(concat([a, b, a], 1)), [leaf([2, 3], 4), leaf([2, 1], 5)]);
});

test('wrong shapes are refused', () => {
  assert.throws(
    () => reshape(zeros([2, 3]), [4, -1]),
    /reshape: expected a shape of 6 elements, got \[4, -1\]/,
  );
  assert.throws(() => reshape(zeros([2, 3]), [-2, -3]), /reshape: expected a shape of 6 elements/);
  assert.throws(
    () => transpose(zeros(Array.from({ length: 17 }, () => 1))),
    /strided_copy: at most 16 axes, got 17/,
  );
  assert.throws(() => transpose(zeros([2, 3]), [0, 0]), /transpose: expected an order of the 2 axes/);
  assert.throws(() => slice(zeros([2, 3]), 1, 2, 4), /slice: expected 0 <= start <= end <= 3, got 2 and 4/);
  assert.throws(
    () => concat([zeros([2, 3]), zeros([3, 2])]),
    /concat: expected tensors of float32 that differ along axis 0/,
  );
});

test.run();
