import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { checkGradients } from '../gradient-check.js';
import { assertClose, devices, leaf, randomTensor } from '../../testing.js';
import { Tape } from '../tape.js';
import { parameter, tensor, zeros } from '../../tensor/tensor.js';
import { groupNormalize } from './group-normalize.js';

const test = suite('groupNormalize');

/** y and dx by the formulas, in double precision. */
function naive(x: ArrayLike<number>, dy: ArrayLike<number>, size: number, epsilon: number) {
  const y = new Float64Array(x.length);
  const dx = new Float64Array(x.length);
  for (let begin = 0; begin < x.length; begin += size) {
    const own = Array.from({ length: size }, (_, i) => x[begin + i] as number);
    const norm = Math.sqrt(own.reduce((sum, v) => sum + v * v, 0));
    const bounded = Math.max(norm, epsilon);
    const along = own.reduce((sum, v, i) => sum + (v / bounded) * (dy[begin + i] as number), 0);
    own.forEach((v, i) => {
      y[begin + i] = v / bounded;
      dx[begin + i] = ((dy[begin + i] as number) - (norm > epsilon ? (v / bounded) * along : 0)) / bounded;
    });
  }
  return { y, dx };
}

// float32: a sum of up to 512 squares and one division, relative error below 1e-6, times dy / norm of at most 100 here (a group of
// one element may be as small as 0.01). bfloat16 rounds the result once: 2^-9 of its size.
for (const device of devices)
  for (const [dtype, tolerance] of [
    ['float32', 1e-5],
    ['bfloat16', 5e-3],
  ] as const)
    test(`${dtype} on ${device.name}: value and gradient equal the formula`, () => {
      for (const [rows, size, groups] of [
        [3, 512, 16],
        [1, 12, 4],
        [5, 21, 1],
        [2, 8, 8],
        [0, 4, 2],
        [33, 66, 2],
        [2, 288, 2], // on CUDA a warp takes 128 elements at a time
      ] as const) {
        const x = parameter(randomTensor([rows, size], 1, { device, dtype }));
        const dy = randomTensor([rows, size], 2, { device, dtype });
        const tape = new Tape();
        const y = tape.record(() => groupNormalize(x, groups, 1e-12));
        const expected = naive(x.toArray(), dy.toArray(), size / groups, 1e-12);
        assertClose(y.toArray(), expected.y, tolerance, 'y');
        tape.backward(y, dy);
        assertClose(x.grad?.toArray() ?? [], expected.dx, tolerance * 10, 'dx');
      }
    });

test('the gradient equals finite differences, above and below epsilon', () => {
  checkGradients((x) => groupNormalize(x, 3), [leaf([4, 12])]);
  checkGradients((x) => groupNormalize(x, 2, 10), [leaf([3, 8])]);
});

test('zeros stay zeros, NaN stays in its group, wrong groups are refused', () => {
  const y = groupNormalize(tensor([0, 0, NaN, 1, 3, 4], [1, 6]), 3);
  assertClose(y.toArray(), [0, 0, NaN, NaN, 0.6, 0.8], 1e-6);
  assert.throws(
    () => groupNormalize(zeros([2, 10]), 3),
    /groupNormalize: expected a last dimension in 3 equal groups, got float32 \[2, 10\]/,
  );
  assert.throws(() => groupNormalize(zeros([2, 10]), 2.5), /groupNormalize: expected .* 2.5 equal groups/);
  assert.throws(
    () => groupNormalize(zeros([2], { dtype: 'uint8' }), 1),
    /expected x as floating \[..., D\], got uint8/,
  );
});

test.run();
