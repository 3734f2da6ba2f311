import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { assertClose } from '../testing.js';
import { Draws, purposes } from '../tensor/philox.js';
import { bootstrapIntervals, rankPairs, weightedFigures } from './bootstrap.js';
import { verification, type ScoredPairs } from './metrics.js';

const test = suite('bootstrap');
const far = [0.01, 0.1, 0.3];

/** Pairs with many equal scores in `folds` folds. */
function somePairs(n: number, folds: number, sample: number): { pairs: ScoredPairs; fold: number[] } {
  const draws = new Draws(3, purposes.test, 0, sample);
  const genuine = Array.from({ length: n }, (_, i) => i % 3 === 0);
  const scores = genuine.map((same) => draws.int(20) + (same ? 6 : 0));
  return { pairs: { scores, genuine }, fold: genuine.map((_, i) => i % folds) };
}

const list = (
  f: { accuracy: number; auc: number; equalErrorRate: number; tarAtFar: number[] } | undefined,
) => (f ? [f.accuracy, f.auc, f.equalErrorRate, ...f.tarAtFar] : []);

const plain = (pairs: ScoredPairs, fold: number[]) => {
  const { accuracy, auc, equalErrorRate, tarAtFar } = verification(pairs, fold, far);
  return [accuracy.mean, auc, equalErrorRate, ...tarAtFar.map(({ tar }) => tar)];
};

// A few hundred additions of doubles: 1e-12 is far more than their rounding.
test('every pair once, or repeated as often as it weighs: the figures of metrics.ts', () => {
  for (let sample = 0; sample < 40; sample++) {
    const { pairs, fold } = somePairs(90, 2 + (sample % 4), sample);
    const ranked = rankPairs(pairs, fold);
    const once = new Float64Array(90).fill(1);
    assertClose(list(weightedFigures(ranked, once, far)), plain(pairs, fold), 1e-12, 'once');

    const draws = new Draws(4, purposes.test, 0, sample);
    const times = Array.from({ length: 90 }, () => draws.int(4));
    const repeated = times.flatMap((count, i) => new Array<number>(count).fill(i));
    const expected = plain(
      {
        scores: repeated.map((i) => pairs.scores[i] ?? NaN),
        genuine: repeated.map((i) => pairs.genuine[i] ?? false),
      },
      repeated.map((i) => fold[i] ?? -1),
    );
    const weights = Float64Array.from(ranked.order, (i) => times[i] ?? 0);
    assertClose(list(weightedFigures(ranked, weights, far)), expected, 1e-12, `sample ${sample}`);
  }
});

test('nothing of one kind: no figures', () => {
  const { pairs, fold } = somePairs(30, 3, 0);
  const ranked = rankPairs(pairs, fold);
  assert.is(weightedFigures(ranked, Float64Array.from(ranked.genuine), far), undefined);
  assert.throws(
    () => bootstrapIntervals(pairs, fold, far, undefined, { resamples: 0, seed: 1 }),
    'at least 1 resample',
  );
});

test('the same seed, the same intervals, around the figure', () => {
  const { pairs, fold } = somePairs(300, 5, 1);
  const once = bootstrapIntervals(pairs, fold, far, undefined, { resamples: 200, seed: 1 });
  assert.equal(bootstrapIntervals(pairs, fold, far, undefined, { resamples: 200, seed: 1 }), once);
  const { auc } = verification(pairs, fold, far);
  assert.ok(once.auc.low < auc && auc < once.auc.high);
  assert.is(once.unit, 'pairs');
});

test('drawing people: the intervals of a plain computation that writes every resample out', () => {
  const [people, resamples, seed, level] = [16, 60, 9, 0.9];
  const draws = new Draws(6, purposes.test, 0, 0);
  const rows = Array.from({ length: 240 }, (_, i) => {
    const a = draws.int(people);
    const b = i % 2 === 0 ? a : (a + 1 + draws.int(people - 1)) % people;
    return { a, b, genuine: a === b, score: draws.int(30) + (a === b ? 8 : 0), fold: i % 3 };
  });
  const verify = (of: typeof rows) =>
    plain(
      { scores: of.map(({ score }) => score), genuine: of.map(({ genuine }) => genuine) },
      of.map(({ fold }) => fold),
    );
  const intervals = bootstrapIntervals(
    { scores: rows.map(({ score }) => score), genuine: rows.map(({ genuine }) => genuine) },
    rows.map(({ fold }) => fold),
    far,
    { first: rows.map(({ a }) => a), second: rows.map(({ b }) => b) },
    { resamples, seed, level },
  );
  // People are numbered as they are met in the order of the scores, highest first.
  const met = new Map<number, number>();
  const ranked = [...rows.keys()].sort((i, j) => (rows[j]?.score ?? 0) - (rows[i]?.score ?? 0) || i - j);
  const meet = (person: number) => met.has(person) || met.set(person, met.size);
  for (const i of ranked) meet(rows[i]?.a ?? 0);
  for (const i of ranked) meet(rows[i]?.b ?? 0);
  const figures = Array.from({ length: resamples }, (_, resample) => {
    const own = new Draws(seed, purposes.bootstrap, 0, resample);
    const drawn = Array.from({ length: people }, () => own.int(people));
    const times = (person: number) => drawn.filter((one) => one === met.get(person)).length;
    return verify(
      rows.flatMap((row) =>
        new Array<typeof row>(row.genuine ? times(row.a) : times(row.a) * times(row.b)).fill(row),
      ),
    );
  });
  const bounds = (index: number) => {
    const values = figures.map((one) => one[index] ?? NaN).sort((a, b) => a - b);
    return [values[3], values[56]]; // 5 % of 60 on each side
  };
  const found = [intervals.accuracy, intervals.auc, intervals.equalErrorRate, ...intervals.tarAtFar];
  found.forEach(({ low, high }, index) =>
    assertClose([low, high], bounds(index) as number[], 1e-12, String(index)),
  );
});

// Each person has a score of their own, on which all their genuine pairs agree but for noise; the AUC of the population is known from a
// large draw. Of 60 experiments an interval of 95 % should hold it in 57 +- 1.7 (one standard deviation): fewer than 50 cannot be.
test('drawing people covers the truth where pairs of one person are alike, drawing pairs does not', () => {
  const experiment = (people: number, sample: number) => {
    const draws = new Draws(5, purposes.test, 1, sample);
    const normal = () =>
      Math.sqrt(-2 * Math.log(1 - draws.uniform())) * Math.cos(2 * Math.PI * draws.uniform());
    const own = Array.from({ length: people }, () => 1 + normal());
    const rows = own.flatMap((score, person) =>
      Array.from({ length: 10 }, () => [
        { score: score + 0.2 * normal(), genuine: true, a: person, b: person },
        { score: normal(), genuine: false, a: person, b: (person + 1 + draws.int(people - 1)) % people },
      ]).flat(),
    );
    const column = <T>(of: (row: (typeof rows)[number]) => T) => rows.map(of);
    return {
      pairs: { scores: column((r) => r.score), genuine: column((r) => r.genuine) },
      fold: column((r) => r.a % 2),
      identities: { first: column((r) => r.a), second: column((r) => r.b) },
    };
  };
  const large = experiment(4000, 1000);
  const truth = verification(large.pairs, large.fold, [0.1]).auc;
  let [byPeople, byPairs] = [0, 0];
  for (let sample = 0; sample < 60; sample++) {
    const { pairs, fold, identities } = experiment(30, sample);
    const holds = (known: typeof identities | undefined) => {
      const { auc } = bootstrapIntervals(pairs, fold, [0.1], known, { resamples: 100, seed: sample });
      return auc.low <= truth && truth <= auc.high;
    };
    byPeople += Number(holds(identities));
    byPairs += Number(holds(undefined));
  }
  assert.ok(byPeople >= 50, `${byPeople} of 60`);
  assert.ok(byPairs < 45, `${byPairs} of 60`);
});

test.run();
