import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { assertClose, devices, randomTensor, randomValues } from '../../testing.js';
import { scope } from '../../tensor/scope.js';
import { full, tensor, zeros } from '../../tensor/tensor.js';
import { groupNormalize } from './group-normalize.js';
import { pairScores } from './pair-scores.js';

const test = suite('pairScores');

/** Eq. 16 as it is written, with squared differences. */
function naive(
  a: ArrayLike<number>,
  b: ArrayLike<number>,
  va: ArrayLike<number>,
  vb: ArrayLike<number>,
  [m, n, groups, size]: readonly [number, number, number, number],
): number[] {
  const at = (list: ArrayLike<number>, i: number) => list[i] as number;
  const scores: number[] = [];
  for (let i = 0; i < m; i++)
    for (let j = 0; j < n; j++) {
      let score = 0;
      for (let k = 0; k < groups; k++) {
        const v = at(va, i * groups + k) + at(vb, j * groups + k);
        let distance = 0;
        for (let c = k * size; c < (k + 1) * size; c++)
          distance += (at(a, i * groups * size + c) - at(b, j * groups * size + c)) ** 2;
        score -= 0.5 * (distance / v) + (size / 2) * Math.log(v);
      }
      scores.push(score);
    }
  return scores;
}

/** Variances from 1e-4 to 1e4. */
const variances = (n: number, seed: number) => randomValues(n, seed).map((u) => 10 ** (4 * u));

for (const device of devices)
  for (const dtype of ['float32', 'float64'] as const) {
    if (dtype === 'float64' && device.name !== 'cpu') continue;
    test(`${dtype} on ${device.name}: every score equals the formula`, () =>
      scope(() => {
        for (const sizes of [
          [3, 5, 4, 8],
          [1, 1, 1, 1],
          [50, 70, 16, 3],
          [200, 65, 2, 17],
          [0, 4, 2, 2],
        ] as const) {
          const [m, n, groups, size] = sizes;
          const unit = (rows: number, seed: number) =>
            groupNormalize(randomTensor([rows, groups * size], seed, { device, dtype }), groups);
          const [a, b] = [unit(m, 1), unit(n, 2)];
          const [va, vb] = [
            tensor(variances(m * groups, 3), [m, groups], { device, dtype }),
            tensor(variances(n * groups, 4), [n, groups], { device, dtype }),
          ];
          const expected = naive(a.toArray(), b.toArray(), va.toArray(), vb.toArray(), sizes);
          // A product of some 50 float32 has an error of 1e-6, divided by variances down to 2e-4; the score is then some thousands.
          assertClose(
            pairScores(a, b, va, vb).toArray(),
            expected,
            dtype === 'float32' ? 1e-3 : 1e-9,
            sizes.join('x'),
          );
        }
      }));
  }

for (const device of devices)
  test(`on ${device.name}: NaN is no match`, () =>
    scope(() => {
      const f = tensor([1, 0, NaN, 0], [2, 2], { device });
      const v = full([2, 1], 1, { device });
      assert.equal(Array.from(pairScores(f, f, v, v).toArray(), Number.isNaN), [false, true, true, true]);
    }));

test('shapes that do not fit are refused', () => {
  const [a, v] = [zeros([2, 6]), zeros([2, 3])];
  assert.throws(() => pairScores(a, zeros([2, 4]), v, v), /pairScores: expected a \[m, D\]/);
  assert.throws(() => pairScores(a, a, v, zeros([2, 2])), /pairScores: expected/);
  assert.throws(() => pairScores(a, a, zeros([2, 4]), zeros([2, 4])), /pairScores: expected/);
});

test.run();
