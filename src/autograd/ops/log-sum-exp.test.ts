import { suite } from 'uvu';
import { assertClose, devices, leaf, randomTensor } from '../../testing.js';
import { scope } from '../../tensor/scope.js';
import { tensor } from '../../tensor/tensor.js';
import { checkGradients } from '../gradient-check.js';
import { logSumExp } from './log-sum-exp.js';

const test = suite('log sum exp');

for (const device of devices)
  test(`${device.name}: against the plain formula, and at the extremes`, () => {
    scope(() => {
      for (const shape of [
        [1, 1],
        [3, 7],
        [2, 3, 5],
      ]) {
        // prettier-ignore
        const x = randomTensor(shape, 3, { device });
        const n = shape.at(-1) ?? 1;
        const values = x.toArray();
        const expected = Array.from({ length: x.size / n }, (_, row) =>
          Math.log([...values.slice(row * n, (row + 1) * n)].reduce((total, v) => total + Math.exp(v), 0)),
        );
        assertClose(logSumExp(x).toArray(), expected, 1e-6); // float32
      }
      const extreme = tensor([1000, 1000, -1000, -1000, NaN, 0], [3, 2], { dtype: 'float32', device });
      assertClose(logSumExp(extreme).toArray(), [1000 + Math.LN2, -1000 + Math.LN2, NaN], 1e-6);
    });
  });

test('gradient', () => {
  checkGradients(logSumExp, [leaf([3, 4])]);
});

test.run();
