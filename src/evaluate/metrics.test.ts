import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../tensor/errors.js';
import {
  areaUnderCurve,
  equalErrorRate,
  foldAccuracy,
  roc,
  stratifiedFolds,
  tarAtFar,
  verification,
  type ScoredPairs,
} from './metrics.js';

const test = suite('verification metrics');

/** Sums of a few dozen doubles of size 1: rounding stays far below this. */
const tolerance = 1e-12;
const near = (value: number, expected: number) =>
  assert.ok(Math.abs(value - expected) <= tolerance, `${value}, expected ${expected}`);

/** Scores with many ties: a fixed pseudo-random sequence rounded to `levels` steps, genuine pairs a little higher. */
function samplePairs(seed: number, pairs: number, levels: number): ScoredPairs {
  let state = seed;
  const next = () => (state = (state * 48271) % 2147483647) / 2147483647;
  const genuine = Array.from({ length: pairs }, (_, i) => (i < 2 ? i === 0 : next() < 0.4));
  return { genuine, scores: genuine.map((g) => Math.round((next() + (g ? 0.3 : 0)) * levels) / levels) };
}

// The same figures by counting, threshold by threshold and pair by pair.
const naive = {
  rate: ({ scores, genuine }: ScoredPairs, kind: boolean, threshold: number) => {
    const all = Array.from(scores).filter((_, i) => genuine[i] === kind);
    return all.filter((score) => score >= threshold).length / all.length;
  },
  tarAtFar(pairs: ScoredPairs, far: number) {
    const rates = [Infinity, ...Array.from(pairs.scores)]
      .filter((t) => naive.rate(pairs, false, t) <= far)
      .map((t) => naive.rate(pairs, true, t));
    return Math.max(...rates);
  },
  auc({ scores, genuine }: ScoredPairs) {
    let wins = 0;
    let games = 0;
    for (let i = 0; i < scores.length; i++)
      for (let j = 0; j < scores.length; j++)
        if (genuine[i] && !genuine[j]) {
          games++;
          wins += scores[i]! > scores[j]! ? 1 : scores[i] === scores[j] ? 0.5 : 0;
        }
    return wins / games;
  },
  accuracy({ scores, genuine }: ScoredPairs, chosen: number[], threshold: number) {
    return chosen.filter((i) => scores[i]! >= threshold === genuine[i]).length / chosen.length;
  },
  foldAccuracies(pairs: ScoredPairs, fold: ArrayLike<number>, folds: number) {
    const all = Array.from(pairs.scores, (_, i) => i);
    return Array.from({ length: folds }, (_, left) => {
      const others = all.filter((i) => fold[i] !== left);
      const sorted = [...new Set(others.map((i) => pairs.scores[i]!))].sort((a, b) => b - a);
      const candidates = [Infinity, ...sorted.slice(1).map((low, i) => (low + sorted[i]!) / 2), -Infinity];
      let [best, threshold] = [-1, 0];
      for (const t of candidates) {
        const accuracy = naive.accuracy(pairs, others, t);
        if (accuracy > best) [best, threshold] = [accuracy, t];
      }
      return naive.accuracy(
        pairs,
        all.filter((i) => fold[i] === left),
        threshold,
      );
    });
  },
};

test('by hand: four pairs of each kind', () => {
  // Descending: g .9, g .8, i .7, g .6 and i .6, i .3, g .2, i .1
  const pairs = {
    scores: [0.9, 0.8, 0.6, 0.2, 0.7, 0.6, 0.3, 0.1],
    genuine: [true, true, true, true, false, false, false, false],
  };
  const curve = roc(pairs);
  assert.equal([...curve.threshold], [Infinity, 0.9, 0.8, 0.7, 0.6, 0.3, 0.2, 0.1]);
  assert.equal([...curve.far], [0, 0, 0, 0.25, 0.5, 0.75, 0.75, 1]);
  assert.equal([...curve.tar], [0, 0.25, 0.5, 0.5, 0.75, 0.75, 1, 1]);
  assert.equal(tarAtFar(curve, 0.001), { far: 0.001, reachedFar: 0, tar: 0.5, threshold: 0.8 });
  // The pair of equal scores would bring FAR to 0.5, so the genuine one among them is refused too.
  assert.equal(tarAtFar(curve, 0.49), { far: 0.49, reachedFar: 0.25, tar: 0.5, threshold: 0.7 });
  assert.is(tarAtFar(curve, 0.5).tar, 0.75);
  near(areaUnderCurve(curve), (4 + 4 + 2.5 + 1) / 16);
  // From (FAR .25, miss .5) to (.5, .25): equal at .375.
  near(equalErrorRate(curve), 0.375);
});

test('separated, reversed and equal scores', () => {
  const genuine = [true, true, false, false];
  const figures = (scores: number[]) => {
    const { accuracy, auc, equalErrorRate, tarAtFar } = verification(
      { scores, genuine },
      [0, 1, 0, 1],
      [0.01],
    );
    return [accuracy.mean, accuracy.std, auc, equalErrorRate, tarAtFar[0]!.tar];
  };
  assert.equal(figures([0.9, 0.8, 0.2, 0.1]), [1, 0, 1, 0, 1]);
  assert.equal(figures([0.1, 0.2, 0.8, 0.9]), [0.5, 0, 0, 1, 0]);
  assert.equal(figures([0.5, 0.5, 0.5, 0.5]), [0.5, 0, 0.5, 0.5, 0]);
});

test('against counting: many ties, few ties, one pair of each kind', () => {
  for (const [seed, size, levels] of [
    [1, 2, 10],
    [2, 37, 5],
    [3, 120, 20],
    [4, 150, 100000],
  ] as const) {
    const pairs = samplePairs(seed, size, levels);
    const curve = roc(pairs);
    for (const far of [1e-3, 0.05, 0.3, 0.99]) near(tarAtFar(curve, far).tar, naive.tarAtFar(pairs, far));
    near(areaUnderCurve(curve), naive.auc(pairs));
    for (let i = 0; i < curve.threshold.length; i++) {
      near(curve.far[i]!, naive.rate(pairs, false, curve.threshold[i]!));
      near(curve.tar[i]!, naive.rate(pairs, true, curve.threshold[i]!));
    }
    const folds = Math.min(10, size);
    const fold = Array.from({ length: size }, (_, i) => i % folds);
    const accuracy = foldAccuracy(pairs, fold);
    const expected = naive.foldAccuracies(pairs, fold, folds);
    assert.equal(accuracy.folds, expected);
    const mean = expected.reduce((a, b) => a + b) / folds;
    near(accuracy.mean, mean);
    near(accuracy.std, Math.sqrt(expected.reduce((sum, a) => sum + (a - mean) ** 2, 0) / folds));
  }
});

test('neighbouring doubles still get a threshold between them', () => {
  const high = 1 + Number.EPSILON;
  const accuracy = foldAccuracy(
    { scores: [high, high, 1, 1], genuine: [true, true, false, false] },
    [0, 1, 0, 1],
  );
  assert.is(accuracy.mean, 1);
});

test('stratified folds: each has its share of both kinds', () => {
  const genuine = Array.from({ length: 45 }, (_, i) => i < 22);
  const fold = stratifiedFolds(genuine, 10);
  for (let f = 0; f < 10; f++) {
    const kinds = genuine.filter((_, i) => fold[i] === f);
    const positive = kinds.filter(Boolean).length;
    assert.ok(positive >= 2 && positive <= 3 && kinds.length - positive >= 2 && kinds.length - positive <= 3);
  }
});

test('errors: NaN, nothing, one kind only, lengths, empty folds', () => {
  const cases: [() => unknown, RegExp][] = [
    [() => roc({ scores: [1, NaN], genuine: [true, false] }), /the score of pair 1 is NaN/],
    [() => roc({ scores: [Infinity, 0], genuine: [true, false] }), /the score of pair 0 is Infinity/],
    [() => roc({ scores: [], genuine: [] }), /got 0 genuine and 0 impostor/],
    [() => roc({ scores: [1, 2], genuine: [true, true] }), /got 2 genuine and 0 impostor/],
    [() => roc({ scores: [1], genuine: [true, false] }), /one score for each of 2 pairs, got 1/],
    [() => foldAccuracy({ scores: [1, 2], genuine: [true, false] }, [0]), /fold of each of 2 pairs/],
    [() => foldAccuracy({ scores: [1, 2], genuine: [true, false] }, [0, 0]), /at least 2 folds/],
    [() => foldAccuracy({ scores: [1, 2], genuine: [true, false] }, [0, 2]), /got 0 of 2 in fold 1/],
  ];
  for (const [run, message] of cases)
    assert.throws(run, (error: unknown) => error instanceof UserError && message.test(error.message));
});

test.run();
