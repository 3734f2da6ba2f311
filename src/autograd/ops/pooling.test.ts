import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { checkGradients } from '../gradient-check.js';
import { assertClose, devices, leaf, randomTensor } from '../../testing.js';
import { Tape } from '../tape.js';
import { HostNumber } from '../../tensor/recording.js';
import { ones, parameter, tensor, zeros } from '../../tensor/tensor.js';
import { scope } from '../../tensor/scope.js';
import { randomUniform, purposes } from '../../tensor/philox.js';
import { averagePool2d, globalAveragePool, maxPool2d, type PoolingOptions } from './pooling.js';
import { dropout } from './dropout.js';

const test = suite('pooling and dropout');

/** Shape of x, options, height and width of y. */
const cases: [number[], PoolingOptions, [number, number]][] = [
  [[2, 6, 7, 5], { kernel: 2 }, [3, 3]],
  [[1, 7, 5, 83], { kernel: 3, stride: 2, padding: 1 }, [4, 3]],
  [[2, 5, 5, 3], { kernel: 3, stride: 1 }, [3, 3]],
  [[1, 9, 9, 2], { kernel: 2, stride: 3 }, [3, 3]],
  [[0, 4, 4, 2], { kernel: 2 }, [2, 2]],
];

for (const device of devices)
  for (const dtype of ['float32', 'bfloat16'] as const)
    test(`${dtype} on ${device.name}: pooling equals the definition`, () => {
      // Means of at most 9 values: one or two roundings. Sums of dy over at most 9 windows likewise.
      const tolerance = dtype === 'float32' ? 5e-7 : 8e-3;
      for (const [shape, options, size] of cases)
        scope(() => {
          const { kernel, stride = kernel, padding = 0 } = options;
          const [, height, width, channels] = shape as [number, number, number, number];
          for (const op of [maxPool2d, averagePool2d]) {
            const x = parameter(randomTensor(shape, 3, { device, dtype }));
            const tape = new Tape();
            const y = tape.record(() => op(x, options));
            assert.equal([y.dim(1), y.dim(2)], size);
            const dy = randomTensor(y.shape, 4, { device, dtype });
            const [xs, g] = [x.toArray(), dy.toArray()];
            const dx = new Float64Array(x.size);
            const expected = Array.from({ length: y.size }, (_, n) => {
              const c = n % channels;
              const j = Math.floor(n / channels) % y.dim(2);
              const i = Math.floor(n / channels / y.dim(2)) % y.dim(1);
              const b = Math.floor(n / channels / y.dim(2) / y.dim(1));
              const inside: number[] = [];
              for (let u = i * stride - padding; u < i * stride - padding + kernel; u++)
                for (let v = j * stride - padding; v < j * stride - padding + kernel; v++)
                  if (u >= 0 && u < height && v >= 0 && v < width)
                    inside.push(((b * height + u) * width + v) * channels + c);
              const values = inside.map((at) => xs[at] as number);
              const best = inside[values.indexOf(Math.max(...values))] as number;
              const to = op === maxPool2d ? [best] : inside;
              for (const at of to) dx[at] = (dx[at] as number) + (g[n] as number) / to.length;
              return op === maxPool2d
                ? (xs[best] as number)
                : values.reduce((p, q) => p + q, 0) / values.length;
            });
            assertClose(y.toArray(), expected, tolerance, `${op.name} ${shape.join()}`);
            tape.backward(y, dy);
            assertClose(x.grad?.toArray() ?? [], dx, tolerance, `${op.name} dx ${shape.join()}`);
            x.grad?.dispose();
          }
        });
    });

test('the gradients equal finite differences', () => {
  // Linear away from ties, which random values do not have.
  checkGradients((x) => maxPool2d(x, { kernel: 3, stride: 2, padding: 1 }), [leaf([1, 5, 6, 2], 1)]);
  checkGradients((x) => averagePool2d(x, { kernel: 3, stride: 2, padding: 1 }), [leaf([1, 5, 6, 2], 1)]);
  checkGradients(globalAveragePool, [leaf([2, 3, 3, 2], 1)]);
  checkGradients((x) => dropout(x, 0.5, { seed: 1, step: 2 }), [leaf([7, 3], 1)]);
});

// One rounding of 1 / 0.6 and one of the product, which bfloat16 rounds to 2^-8 of it.
for (const device of devices)
  for (const [dtype, tolerance] of [
    ['float32', 3e-7],
    ['bfloat16', 2 ** -8],
  ] as const)
    test(`${dtype} on ${device.name}: dropout follows Philox and keeps the mean`, () => {
      const options = { seed: 2 ** 40 + 7, step: 5, layer: 3 };
      const n = 10_001;
      const x = parameter(randomTensor([n], 1, { device, dtype }));
      const tape = new Tape();
      const y = tape.record(() => dropout(x, 0.4, options));
      const keeps = Array.from(
        { length: n },
        (_, i) => randomUniform(options.seed, purposes.dropout, 5, 3, i) >= 0.4,
      );
      assertClose(
        y.toArray(),
        Array.from(x.toArray(), (v, i) => (keeps[i] ? v / 0.6 : 0)),
        tolerance,
      );
      const kept = keeps.filter(Boolean).length / n;
      assert.ok(
        Math.abs(kept - 0.6) < 0.02,
        `four standard deviations of the share kept, 0.005 each: ${kept}`,
      );
      const dy = randomTensor([n], 2, { device, dtype });
      tape.backward(y, dy);
      assertClose(
        x.grad?.toArray() ?? [],
        Array.from(dy.toArray(), (v, i) => (keeps[i] ? v / 0.6 : 0)),
        tolerance,
      );
      assert.is(dropout(zeros([0], { device }), 0.5, options).size, 0);
    });

test('the gradient of dropout has the mask of the forward pass, though the step has advanced since', () => {
  const x = parameter(ones([64]));
  const step = new HostNumber(5);
  const tape = new Tape();
  const y = tape.record(() => dropout(x, 0.5, { seed: 1, step }));
  step.value++;
  tape.backward(y, ones([64]));
  assert.equal(x.grad?.toArray(), y.toArray());
});

test('NaN wins a maximum; wrong sizes are refused', () => {
  const x = tensor([1, NaN, 3, 4], [1, 2, 2, 1]);
  assertClose(maxPool2d(x, { kernel: 2 }).toArray(), [NaN], 0);
  assert.throws(
    () => maxPool2d(zeros([2, 2]), { kernel: 2 }),
    /maxPool2d: expected x as floating \[B, H, W, C\]/,
  );
  assert.throws(
    () => averagePool2d(zeros([1, 2, 2, 1]), { kernel: 3 }),
    /an image no smaller than the window of 3 pixels/,
  );
  for (const shape of [
    [1, 0, 4, 3],
    [1, 4, 0, 3],
  ])
    assert.throws(
      () => maxPool2d(zeros(shape), { kernel: 2, padding: 1, stride: 1 }),
      /an image no smaller than the window of 2 pixels/,
    );
  assert.throws(
    () => maxPool2d(zeros([1, 9, 9, 1]), { kernel: 3, padding: 2 }),
    /padding of at most half the kernel/,
  );
  assert.throws(
    () => dropout(zeros([2]), 1, { seed: 1, step: 1 }),
    /dropout: expected a probability in \[0, 1\), got 1/,
  );
});

test.run();
