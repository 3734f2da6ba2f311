import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { checkGradients } from '../autograd/gradient-check.js';
import { groupNormalize } from '../autograd/ops/group-normalize.js';
import { scorePairs } from '../evaluate/scores.js';
import { assertClose, devices, leaf, randomTensor } from '../testing.js';
import { noGrad } from '../autograd/tape.js';
import { softplus } from '../autograd/ops/unary.js';
import { scope } from '../tensor/scope.js';
import { tensor, type Tensor } from '../tensor/tensor.js';
import { genuinePairs, mutualLikelihood, uncertaintyLoss } from './uncertainty.js';

const test = suite('uncertainty');
const [images, width, groups] = [5, 12, 3];
const labels = [4, 7, 4, 4, 7];

/** Eq. 16 as it is written. */
function plain(f: ArrayLike<number>, s: ArrayLike<number>, i: number, j: number): number {
  const at = (list: ArrayLike<number>, k: number) => list[k] as number;
  let first = 0;
  let second = 0;
  for (let k = 0; k < groups; k++) {
    const variance = 1 / at(s, i * groups + k) + 1 / at(s, j * groups + k);
    let distance = 0;
    for (let d = (k * width) / groups; d < ((k + 1) * width) / groups; d++)
      distance += (at(f, i * width + d) - at(f, j * width + d)) ** 2;
    first += distance / variance;
    second += Math.log(variance);
  }
  return -0.5 * first - (width / (2 * groups)) * second;
}

// Some twenty float32 operations on values of order 10: 1e-5 is a hundred roundings.
for (const device of devices)
  test(`${device.name}: Eq. 16 and the loss equal the formula`, () =>
    scope(() => {
      const f = groupNormalize(randomTensor([images, width], 1, { device }), groups);
      const s = softplus(randomTensor([images, groups], 2, { device }));
      const { first, second } = genuinePairs(labels);
      assert.equal([...first], [0, 0, 1, 2]);
      assert.equal([...second], [2, 3, 4, 3]);
      const expected = Array.from(first, (i, p) => plain(f.toArray(), s.toArray(), i, second[p] as number));
      const loss = noGrad(() => uncertaintyLoss(f, s, labels)).item();
      assertClose([loss], [-expected.reduce((a, b) => a + b, 0) / 4], 1e-5, 'loss');
      const pairs = { first, second, genuine: [true, true, true, true], fold: new Int32Array(4) };
      const features = {
        embedding: f.toArray() as Float32Array,
        confidence: s.toArray() as Float32Array,
        size: width,
        groups,
      };
      assertClose(scorePairs(features, pairs, 'uncertainty').scores, expected, 1e-12, 'scores');
    }));

test('the gradient equals finite differences', () => {
  const score = (fa: Tensor, fb: Tensor, sa: Tensor, sb: Tensor) =>
    mutualLikelihood(groupNormalize(fa, groups), groupNormalize(fb, groups), softplus(sa), softplus(sb));
  checkGradients(score, [
    leaf([4, width], 1),
    leaf([4, width], 2),
    leaf([4, groups], 3),
    leaf([4, groups], 4),
  ]);
});

test('a pair is the likelier, the more its uncertainty is what its distance tells', () => {
  // d/dv (distance / v + d log v) = 0 at v = distance / d: two images at distance² δ in each group should have σ² = δ / 2d each.
  const f = new Float32Array(2 * width);
  const delta = 0.5;
  const cosine = 1 - delta / 2;
  for (let k = 0; k < groups; k++) {
    f[k * 4] = 1;
    f[width + k * 4] = cosine;
    f[width + k * 4 + 1] = Math.sqrt(1 - cosine ** 2);
  }
  const score = (s: number) => plain(f, new Float32Array(2 * groups).fill(s), 0, 1);
  const best = (2 * 4) / delta;
  assert.ok(score(best) > score(best * 1.2) && score(best) > score(best / 1.2));
});

test('a batch without genuine pairs, an experiment without confidences', () =>
  scope(() => {
    const f = tensor(new Float32Array(24), [2, width]);
    assert.throws(
      () => uncertaintyLoss(f, tensor(new Float32Array(6).fill(1), [2, groups]), [1, 2]),
      'two images of an identity',
    );
    const pairs = {
      first: Int32Array.of(0),
      second: Int32Array.of(1),
      genuine: [true],
      fold: Int32Array.of(0),
    };
    const features = { embedding: new Float32Array(24), confidence: undefined, size: width, groups };
    assert.throws(() => scorePairs(features, pairs, 'uncertainty'), 'needs confidences');
  }));

test.run();
