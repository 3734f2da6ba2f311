import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { randomValues } from '../testing.js';
import { rankPairs, weightedFigures } from './bootstrap.js';
import { HighestScores } from './operating-point.js';
import { tailFigures, tailIntervals, tailSize, type TailPairs } from './tail-bootstrap.js';

const test = suite('bootstrap of the tail');
const [people, far] = [40, [1e-3, 0.01, 0.1]];

/** All pairs of three images of each person, scores of 60 levels a unit, as the tail takes them and as the whole bootstrap does. */
function sample(seed: number, count = people, levels = 60) {
  const images = Array.from({ length: 3 * count }, (_, i) => Math.floor(i / 3));
  const values = randomValues(images.length ** 2, seed);
  const all = images.flatMap((a, i) =>
    images.slice(i + 1).map((b, j) => {
      const noise = values[i * images.length + j] ?? 0;
      return { a, b, genuine: a === b, score: Math.round(levels * (noise + (a === b ? 1 : 0))) / levels };
    }),
  );
  const side = (genuine: boolean) => {
    const pairs = all.filter((one) => one.genuine === genuine);
    const highest = new HighestScores(genuine ? pairs.length : tailSize(0.1, pairs.length));
    pairs.forEach(({ score }, i) => highest.add(score, i));
    const { scores, tags } = highest.descending();
    const person = (of: 'a' | 'b') => tags.map((i) => pairs[i]?.[of] ?? -1);
    return { pairs, tail: { scores, first: person('a'), second: person('b') } };
  };
  const [right, wrong] = [side(true), side(false)];
  const tail: TailPairs = {
    right: right.tail,
    wrong: wrong.tail,
    wrongWeight: (weights) =>
      wrong.pairs.reduce((sum, { a, b }) => sum + (weights[a] ?? 0) * (weights[b] ?? 0), 0),
  };
  return { all, tail, kept: wrong.tail.scores.length, total: wrong.pairs.length };
}

test('a resample has the figures that the whole bootstrap gives for the same weights', () => {
  const large = sample(1);
  assert.ok(large.kept < large.total / 2, 'only the tail is kept');
  // In the small one single pairs tell.
  for (const { all, tail } of [large, sample(2, 12, 1e6)]) {
    const scored = { scores: all.map(({ score }) => score), genuine: all.map(({ genuine }) => genuine) };
    const ranked = rankPairs(scored, new Int32Array(all.length));
    for (let seed = 0; seed < 20; seed++) {
      const weights = randomValues(people, seed + 2).map((value) => Math.max(0, Math.round(2 * value + 0.7)));
      const weightOf = (i: number) => {
        const { a = 0, b = 0 } = all[i] ?? {};
        return a === b ? (weights[a] ?? 0) : (weights[a] ?? 0) * (weights[b] ?? 0);
      };
      const expected = weightedFigures(ranked, Array.from(ranked.order, weightOf), far);
      const found = tailFigures(tail, weights, far);
      found?.forEach((value, k) => assert.ok(Math.abs(value - (expected?.tarAtFar[k] ?? NaN)) < 1e-12));
      assert.is(found?.length, 3);
    }
  }
});

test('the figure of everybody once lies within its interval', () => {
  const { tail } = sample(3);
  const once = tailFigures(tail, new Float64Array(people).fill(1), far) ?? [];
  const intervals = tailIntervals([tail, tail], people, far, { resamples: 200, seed: 5 });
  intervals.forEach(({ low, high }, k) => {
    const value = once[k] ?? NaN;
    assert.ok(low < value && value < high && high - low < 0.5, `${low} ${value} ${high}`);
  });
  assert.equal(tailIntervals([tail], people, far, { resamples: 200, seed: 5 }), intervals);
});

test('nobody of one kind: no figures', () => {
  const { tail } = sample(4);
  const alone = new Float64Array(people);
  alone[3] = people;
  assert.is(tailFigures(tail, alone, far), undefined);
});

test.run();
