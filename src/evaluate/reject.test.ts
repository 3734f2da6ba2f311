import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { assertClose } from '../testing.js';
import { Draws, purposes } from '../tensor/philox.js';
import { imageQuality, pairQuality, rejectCurve } from './reject.js';

const test = suite('reject');

test('quality: mean log of the confidences; of a pair the smaller', () => {
  const quality = imageQuality({
    embedding: new Float32Array(6),
    confidence: Float32Array.of(1, 4, 2, 2, 9, 9),
    size: 2,
    groups: 2,
  });
  // The confidences are float32 but exact here.
  assertClose(quality, [Math.log(2), Math.log(2), Math.log(9)], 1e-15);
  assert.equal([...pairQuality([3, 1, 2], { first: [0, 0], second: [2, 1] })], [2, 1]);
});

test('the curve equals counting anew for each share', () => {
  const draws = new Draws(1, purposes.test, 0, 0);
  const n = 230;
  const genuine = Array.from({ length: n }, (_, i) => i % 2 === 0);
  const scores = genuine.map((same) => draws.uniform() + (same ? 0.5 : 0));
  const quality = genuine.map(() => draws.int(40));
  const curve = rejectCurve({ scores, genuine }, quality, 0.05, 0.9);
  const impostors = scores.filter((_, i) => !genuine[i]).sort((a, b) => b - a);
  // 115 impostors, 5 % are 5.75: five may pass, and so may genuine scores down to just above the sixth.
  assert.ok(curve.threshold > (impostors[5] ?? 2) && curve.threshold <= (impostors[4] ?? -1));
  curve.rejected.forEach((share, step) => {
    const count = Math.floor((step * n) / 100);
    /** What is left of a pair: of those of one quality the same part of each. */
    const kept = quality.map((own) => {
      const below = quality.filter((other) => other < own).length;
      const equal = quality.filter((other) => other === own).length;
      return 1 - Math.min(1, Math.max(0, (count - below) / equal));
    });
    const rate = (kind: boolean, accepted: boolean) => {
      const sum = (of: (i: number) => boolean) =>
        kept.reduce((total, part, i) => total + (genuine[i] === kind && of(i) ? part : 0), 0);
      return sum((i) => (scores[i] ?? 0) >= curve.threshold === accepted) / sum(() => true);
    };
    assert.is(share, step / 100);
    // Sums of at most 115 parts, added in another order.
    assertClose([curve.falseReject[step] ?? NaN], [rate(true, false)], 1e-12);
    assertClose([curve.falseAccept[step] ?? NaN], [rate(false, true)], 1e-12);
  });
  assert.is(curve.rejected.length, 91);
});

test('one quality for all pairs leaves every rate as it is, wherever the errors lie', () => {
  const genuine = Array.from({ length: 60 }, (_, i) => i % 2 === 0);
  const scores = genuine.map((same, i) => (same ? (i < 20 ? 0 : 2) : i / 60));
  const { falseReject, relativeArea } = rejectCurve({ scores, genuine }, new Float64Array(60).fill(-9), 0.1);
  // Ten of thirty are refused; the parts are hundredths.
  assertClose(falseReject as number[], falseReject.map(() => 1 / 3), 1e-12); // prettier-ignore
  assertClose([relativeArea ?? NaN], [1], 1e-12);
});

test('a quality that knows the errors empties the curve, one that knows nothing does not', () => {
  const genuine = Array.from({ length: 400 }, (_, i) => i % 2 === 0);
  const wrong = genuine.map((same, i) => same && i % 10 === 0);
  const scores = genuine.map((same, i) => (same && !wrong[i] ? 1 : 0) + i * 1e-6);
  const far = 0.02;
  const knows = rejectCurve(
    { scores, genuine },
    wrong.map((bad) => (bad ? 0 : 1)),
    far,
  );
  assert.is(knows.falseReject[10], 0);
  assert.ok((knows.relativeArea ?? 1) < 0.15);
  const blind = rejectCurve(
    { scores, genuine },
    genuine.map((_, i) => (i * 7919) % 400),
    far,
  );
  assert.ok(Math.abs((blind.relativeArea ?? 0) - 1) < 0.35);
});

test.run();
