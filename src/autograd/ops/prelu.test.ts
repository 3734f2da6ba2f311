import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { checkGradients } from '../gradient-check.js';
import { assertClose, devices, leaf, randomTensor } from '../../testing.js';
import { Tape } from '../tape.js';
import { parameter, tensor, zeros } from '../../tensor/tensor.js';
import { cast } from './cast.js';
import { prelu } from './prelu.js';

const test = suite('prelu');

// Element-wise float32 against doubles: one rounding, 6e-8. Sums of n terms of size 1: n * 6e-8, here below 1e-5. bfloat16: 2^-8.
const shapes = [
  [5, 3],
  [1, 1],
  [2, 3, 3, 17],
  [700, 33],
  [40, 83],
  [0, 4],
];

for (const device of devices)
  for (const [dtype, tolerance] of [
    ['float32', 2e-5],
    ['bfloat16', 8e-3],
  ] as const)
    test(`${dtype} on ${device.name}: value and gradient equal the formula`, () => {
      for (const shape of shapes) {
        const channels = shape.at(-1) as number;
        const x = parameter(randomTensor(shape, 1, { device, dtype }));
        const slope = parameter(randomTensor([channels], 2, { device }));
        const dy = randomTensor(shape, 3, { device, dtype });
        const tape = new Tape();
        const y = tape.record(() => prelu(x, slope));
        const [xs, a, g] = [x.toArray(), slope.toArray(), dy.toArray()];
        const at = (i: number) => a[i % channels] as number;
        assertClose(
          y.toArray(),
          Array.from(xs, (v, i) => (v > 0 ? v : at(i) * v)),
          tolerance,
          'y',
        );
        tape.backward(y, dy);
        assertClose(
          x.grad?.toArray() ?? [],
          Array.from(g, (v, i) => ((xs[i] as number) > 0 ? v : at(i) * v)),
          tolerance,
          'dx',
        );
        const dslope = new Float64Array(channels);
        xs.forEach((v, i) => {
          if (v <= 0) dslope[i % channels] = (dslope[i % channels] as number) + v * (g[i] as number);
        });
        assertClose(slope.grad?.toArray() ?? [], dslope, tolerance, 'dslope');
      }
    });

test('a bfloat16 result has the bits of the float32 result cast, whatever that is', () => {
  // Products with all mantissas, half way between neighbours too, too large, too small and none; in vectors and one by one.
  const slopes = [1, 1.5, 1 + 2 ** -8, 1.3, 3.4e38, 1e-38, 1e-40, -0, Infinity, NaN, -NaN];
  const x = Float32Array.from({ length: 128 * 27 }, (_, i) => -(1 + Math.floor(i / 27) / 128));
  const slope = tensor(
    Float32Array.from({ length: 27 }, (_, c) => slopes[c % slopes.length] as number),
    [27],
  );
  const y = prelu(tensor(x, [128, 27], { dtype: 'bfloat16' }), slope);
  assert.equal(y.toBits(), cast(prelu(tensor(x, [128, 27]), slope), 'bfloat16').toBits());
});

test('the gradient equals finite differences', () => {
  // The function is linear on either side of 0 and no value is within the step of 0: only rounding remains.
  checkGradients(prelu, [leaf([4, 5], 1), leaf([5], 2)]);
});

test('extremes pass through; a wrong slope is refused', () => {
  const y = prelu(tensor([Infinity, -Infinity, NaN, -0], [1, 4]), tensor([1, 0.5, 1, 1]));
  assertClose(y.toArray(), [Infinity, -Infinity, NaN, -0], 0);
  assert.throws(
    () => prelu(zeros([2, 3]), zeros([4])),
    /prelu: expected a slope of float32 \[3\], got float32 \[4\]/,
  );
  const whole = zeros([2, 3], { dtype: 'int32' });
  assert.throws(
    () => prelu(whole, zeros([3])),
    /prelu: expected x as floating \[..., C\], got int32 \[2, 3\]/,
  );
  assert.throws(
    () => prelu(zeros([]), zeros([1])),
    /prelu: expected x as floating \[..., C\], got float32 \[\]/,
  );
});

test.run();
