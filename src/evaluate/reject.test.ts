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
  const order = [...quality.keys()].sort((a, b) => (quality[a] ?? 0) - (quality[b] ?? 0) || a - b);
  curve.rejected.forEach((share, step) => {
    const kept = order.slice(Math.floor((step * n) / 100));
    const rate = (kind: boolean, accepted: boolean) => {
      const of = kept.filter((i) => genuine[i] === kind);
      return of.length === 0
        ? null
        : of.filter((i) => (scores[i] ?? 0) >= curve.threshold === accepted).length / of.length;
    };
    assert.is(share, step / 100);
    assert.is(curve.falseReject[step], rate(true, false));
    assert.is(curve.falseAccept[step], rate(false, true));
  });
  assert.is(curve.rejected.length, 91);
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
