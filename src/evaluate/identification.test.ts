import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { randomValues } from '../testing.js';
import { UserError } from '../tensor/errors.js';
import { identification, identificationIntervals, personIntervals, search } from './identification.js';
import { roc, tarAtFar } from './metrics.js';
import { allowed, HighestScores, operatingPoints } from './operating-point.js';

const test = suite('identification and operating points');

/** Scores with many ties. */
const coarse = (n: number, seed: number, steps = 12) =>
  Array.from(randomValues(n, seed), (value) => Math.round(value * steps) / steps);

test('operating points are those of the whole ROC, however few scores are kept', () => {
  for (const seed of [1, 2, 3]) {
    const [right, wrong] = [coarse(300, seed), coarse(1000, seed + 10)];
    const shifted = right.map((score) => score + 0.5);
    const curve = roc({
      scores: [...shifted, ...wrong],
      genuine: [...shifted.map(() => true), ...wrong.map(() => false)],
    });
    const limits = [1e-3, 0.01, 0.05, 0.1];
    const highest = new HighestScores(allowed(0.1, wrong.length) + 1);
    for (const score of wrong) highest.add(score);
    operatingPoints(Float64Array.from(shifted), highest, limits).forEach((point, i) => {
      const expected = tarAtFar(curve, limits[i] ?? 0);
      assert.is(point.rate, expected.tar);
      assert.is(point.reached, expected.reachedFar);
      assert.is(point.threshold, Number.isFinite(expected.threshold) ? expected.threshold : null);
    });
  }
});

test('the highest scores are kept in any order of adding, and the share allowed is exact', () => {
  for (const scores of [coarse(5000, 4, 1000), coarse(5000, 5, 3)])
    for (const capacity of [1, 7, 1500]) {
      const highest = new HighestScores(capacity);
      scores.forEach((score, i) => highest.add(score, i));
      const expected = [...scores].sort((a, b) => b - a).slice(0, capacity);
      const found = highest.descending();
      assert.equal([...found.scores], expected);
      assert.equal(
        [...found.tags].map((i) => scores[i]),
        expected,
      );
      assert.is(new Set(found.tags).size, capacity);
      assert.is(highest.total, 5000);
    }
  assert.equal(
    [allowed(0.29, 100), allowed(0.1, 30), allowed(1e-6, 999_999), allowed(1e-6, 1e6)],
    [29, 3, 0, 1],
  );
  // Times 10 it rounds to 9, but nine tenths are more.
  assert.is(allowed(0.8999999999999999, 10), 8);
});

test('the interval of a mean where people are drawn with all theirs', () => {
  // Two people, one of whom has two values: three means, one half of the draws have both people.
  for (const [level, low, high] of [
    [0.4, 2 / 3, 2 / 3],
    [0.9, 0, 1],
  ] as const)
    assert.equal(personIntervals([0, 1, 0], [1, 0, 1], { resamples: 1000, seed: 1, level }), { low, high });
});

test('too few scores kept, or none, is an error', () => {
  const highest = new HighestScores(2);
  assert.throws(
    () => operatingPoints(new Float64Array(1), highest, [0.1]),
    /both kinds, got 1 to accept and 0/,
  );
  for (const score of coarse(100, 1)) highest.add(score);
  assert.throws(
    () => operatingPoints(new Float64Array(1), highest, [0.1]),
    (error: Error) => error instanceof UserError && /the 11 highest of 100 scores, got 2/.test(error.message),
  );
});

test('ranks and average precision count ties against the system', () => {
  const gallery = Int32Array.of(5, 6, 5, 7, -1);
  assert.equal(search([0.9, 0.5, 0.5, 0.1, 0.9], gallery, 5), {
    mated: true,
    rank: 2, // the distractor ties
    averagePrecision: (1 / 2 + 2 / 4) / 2,
    score: 0.9,
  });
  assert.equal(search([0.9, 0.5, 0.5, 0.1, 0.2], gallery, 9), {
    mated: false,
    rank: Infinity,
    averagePrecision: 0,
    score: 0.9,
  });
  // Nobody's mate: -1 is no person.
  assert.is(search([0.9, 0.5, 0.5, 0.1, 0.2], gallery, -1).mated, false);
});

test('what could not be enrolled is never found and is found by nobody', () => {
  const gallery = Int32Array.of(1, 2, 1);
  const failed = search([-Infinity, -Infinity, -Infinity], gallery, 1);
  assert.equal([failed.rank, failed.averagePrecision], [Infinity, 0]);
  const entryFailed = search([-Infinity, -0.5, 0.1], gallery, 1);
  assert.equal([entryFailed.rank, entryFailed.averagePrecision], [1, 0.5]);
});

test('without mated probes there are no ranks, and a draw without them says nothing', () => {
  const gallery = Int32Array.of(0, 1);
  const [hit, other] = [search([0.9, 0.1], gallery, 0), search([0.3, 0.2], gallery, 7)];
  const none = identification([other], 2, [1], [0.5]);
  assert.equal([none.ranks[0]?.rate, none.meanAveragePrecision, none.open], [NaN, NaN, []]);
  // Two people, one of them mated: every second draw of two has the mated one, and then the rate is 1.
  const probes = [hit, other];
  const { ranks, meanAveragePrecision } = identificationIntervals(
    [0, 7],
    (drawn) => identification(drawn.map((i) => probes[i] ?? other), 2, [1], [0.5]), // prettier-ignore
    { resamples: 50, seed: 1 },
  );
  assert.equal([ranks[0], meanAveragePrecision], [{ low: 1, high: 1 }, { low: 1, high: 1 }]); // prettier-ignore
});

test('all figures as counted plainly', () => {
  const [probes, entries, people] = [80, 60, 30];
  const scores = Array.from({ length: probes }, (_, p) => coarse(entries, p + 1, 20));
  const gallery = Int32Array.from({ length: entries }, (_, i) => (i < 40 ? i % 20 : -1));
  const person = (p: number) => p % people; // 20 ... 29 have no mate
  const found = identification(
    scores.map((row, p) => search(row, gallery, person(p))),
    entries,
    [1, 5, 20],
    [0.01, 0.1, 0.5],
  );
  // Independent: by sorting, the entries of others first where scores tie.
  const sorted = scores.map((row, p) =>
    row
      .map((score, i) => ({ score, hit: gallery[i] === person(p) }))
      .sort((a, b) => b.score - a.score || Number(a.hit) - Number(b.hit)),
  );
  const isMated = (p: number) => person(p) < 20;
  const mated = sorted.filter((_, p) => isMated(p));
  const near = (a: number | undefined, b: number) => assert.ok(Math.abs((a ?? NaN) - b) < 1e-12, `${a} ${b}`);
  for (const { rank, rate } of found.ranks)
    near(rate, mated.filter((list) => list.slice(0, rank).some(({ hit }) => hit)).length / mated.length);
  const precisions = mated.map((list) => {
    const places = list.flatMap(({ hit }, i) => (hit ? [i + 1] : []));
    return places.reduce((sum, place, i) => sum + (i + 1) / place, 0) / places.length;
  });
  near(found.meanAveragePrecision, precisions.reduce((a, b) => a + b) / precisions.length);
  const others = sorted.filter((_, p) => !isMated(p)).map((list) => list[0]?.score ?? NaN);
  for (const { limit, rate, reached } of found.open) {
    const all = [Infinity, ...sorted.map((list) => list[0]?.score ?? NaN), ...scores.flat()];
    const fpir = (t: number) => others.filter((score) => score >= t).length / others.length;
    const tpir = (t: number) =>
      mated.filter(([first]) => first?.hit && first.score >= t).length / mated.length;
    const admissible = all.filter((t) => fpir(t) <= limit);
    near(rate, Math.max(...admissible.map(tpir)));
    near(reached, Math.max(...admissible.map(fpir)));
  }
  assert.equal([found.mated, found.nonMated, found.gallery], [mated.length, others.length, entries]);
});

test.run();
