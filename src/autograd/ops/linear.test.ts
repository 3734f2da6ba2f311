import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { checkGradients } from '../gradient-check.js';
import { assertClose, devices, leaf, randomTensor } from '../../testing.js';
import { Tape } from '../tape.js';
import { ones, parameter, zeros } from '../../tensor/tensor.js';
import { linear } from './linear.js';

const test = suite('linear');

// A float32 sum of 72 terms below 1 errs by less than 1e-5. With bfloat16 x the matrix units of CUDA take 16 bits of the float32 factor,
// so that a term errs by less than 2^-17, and both factors of dx so: 2^-16, some 20 such of random sign in all; then dx is rounded, 2^-8 of its
// size.
for (const device of devices)
  for (const [dtype, tolerance, dxTolerance] of [
    ['float32', 1e-5, 1e-5],
    ['bfloat16', 1e-4, 2 ** -8 + 2e-4],
  ] as const)
    test(`${dtype} on ${device.name}: value and gradients equal the formula`, () => {
      for (const [rows, features, out] of [
        [1, 1, 1],
        [5, 33, 7],
        [0, 3, 2],
        [40, 72, 24], // all in packs of 8
        [8, 264, 272], // CUDA's blocks share the passes over the two halves of float32 factors
        [8, 24, 5],
      ] as const) {
        const x = parameter(randomTensor([1, rows, features], 1, { device, dtype }));
        const weight = parameter(randomTensor([out, features], 2, { device }));
        const bias = parameter(randomTensor([out], 3, { device }));
        const tape = new Tape();
        const y = tape.record(() => linear(x, weight, bias));
        assert.equal(y.shape, [1, rows, out]);
        assert.is(y.dtype, 'float32');
        const dy = randomTensor(y.shape, 4, { device });
        const [xs, ws, bs, gs] = [x, weight, bias, dy].map((t) => t.toArray() as Float32Array) as [
          Float32Array,
          Float32Array,
          Float32Array,
          Float32Array,
        ];
        const expected = {
          y: Float64Array.from({ length: y.size }, (_, i) => bs[i % out] as number),
          dx: new Float64Array(x.size),
          dw: new Float64Array(weight.size),
          db: new Float64Array(out),
        };
        const plus = (a: Float64Array, i: number, v: number) => (a[i] = (a[i] as number) + v);
        for (let r = 0; r < rows; r++)
          for (let o = 0; o < out; o++) {
            const g = gs[r * out + o] as number;
            plus(expected.db, o, g);
            for (let c = 0; c < features; c++) {
              const [xi, wi] = [r * features + c, o * features + c];
              plus(expected.y, r * out + o, (xs[xi] as number) * (ws[wi] as number));
              plus(expected.dx, xi, g * (ws[wi] as number));
              plus(expected.dw, wi, g * (xs[xi] as number));
            }
          }
        assertClose(y.toArray(), expected.y, tolerance, 'y');
        tape.backward(y, dy);
        assertClose(x.grad?.toArray() ?? [], expected.dx, dxTolerance, 'dx');
        assertClose(weight.grad?.toArray() ?? [], expected.dw, tolerance, 'dweight');
        assertClose(bias.grad?.toArray() ?? [], expected.db, tolerance, 'dbias');
        assert.equal(
          [x, weight, bias].map((t) => t.grad?.dtype),
          [dtype, 'float32', 'float32'],
        );
      }
    });

test('the gradient equals finite differences', () => {
  // The function is linear in every input: only the rounding of doubles remains.
  checkGradients(linear, [leaf([3, 4], 1), leaf([2, 4], 2), leaf([2], 3)]);
});

test('no outputs, no features', () => {
  assert.equal(linear(zeros([3, 4]), zeros([0, 4]), zeros([0])).shape, [3, 0]);
  assertClose(linear(zeros([2, 0]), zeros([2, 0]), ones([2])).toArray(), [1, 1, 1, 1], 0);
});

test('wrong shapes are refused', () => {
  assert.throws(
    () => linear(zeros([2, 3]), zeros([4, 2])),
    /linear: expected a weight of float32 \[out, 3\], got float32 \[4, 2\]/,
  );
  assert.throws(
    () => linear(zeros([2, 3]), zeros([4, 3]), zeros([3])),
    /linear: expected a bias of float32 \[4\], got float32 \[3\]/,
  );
  const whole = zeros([2, 3], { dtype: 'int32' });
  assert.throws(
    () => linear(whole, zeros([4, 3])),
    /linear: expected x as floating \[..., in\], got int32 \[2, 3\]/,
  );
});

test.run();
