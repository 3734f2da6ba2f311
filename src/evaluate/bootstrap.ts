/**
 * Confidence intervals of verification figures by the bootstrap. Pairs that share a person are not independent, so people are drawn,
 * not pairs (the subsets bootstrap of Bolle, Ratha and Pankanti, 2004): with a person drawn w times, a genuine pair of theirs counts
 * w times and an impostor pair of two people the product of both. Where nobody knows who is on the images, pairs are drawn.
 * The interval holds the middle share of the resampled figures (percentiles).
 */
import { UserError } from '../tensor/errors.js';
import { Draws, purposes } from '../tensor/philox.js';
import type { ScoredPairs, Verification } from './metrics.js';

export interface Interval {
  readonly low: number;
  readonly high: number;
}

export interface Intervals {
  /** What was drawn. */
  readonly unit: 'identities' | 'pairs';
  readonly resamples: number;
  /** The share of the resampled figures that an interval holds. */
  readonly level: number;
  readonly accuracy: Interval;
  readonly auc: Interval;
  readonly equalErrorRate: Interval;
  /** In the order of the rates asked for. */
  readonly tarAtFar: readonly Interval[];
}

export interface BootstrapOptions {
  resamples: number;
  seed: number;
  level?: number;
}

/** The identity of both images of each pair. */
export interface PairIdentities {
  readonly first: ArrayLike<number>;
  readonly second: ArrayLike<number>;
}

/** Figures of pairs that count a whole number of times each. */
export type WeightedFigures = Pick<Verification, 'auc' | 'equalErrorRate'> & {
  accuracy: number;
  tarAtFar: number[];
};

/** Pairs in the order of their scores, highest first, which every resample passes once. */
export interface RankedPairs {
  readonly order: Uint32Array;
  readonly scores: Float64Array;
  readonly genuine: Uint8Array;
  readonly fold: Int32Array;
  readonly folds: number;
}

export function rankPairs({ scores, genuine }: ScoredPairs, fold: ArrayLike<number>): RankedPairs {
  const order = Uint32Array.from({ length: scores.length }, (_, i) => i).sort(
    (a, b) => (scores[b] as number) - (scores[a] as number) || a - b,
  );
  const ranked = Int32Array.from(order, (i) => fold[i] as number);
  return {
    order,
    scores: Float64Array.from(order, (i) => scores[i] as number),
    genuine: Uint8Array.from(order, (i) => Number(genuine[i])),
    fold: ranked,
    folds: ranked.reduce((most, one) => Math.max(most, one), 0) + 1,
  };
}

/**
 * The figures of `metrics.ts`, by the same definitions, of the multiset in which the pair of rank i occurs weights[i] times. Undefined
 * when it lacks genuine or impostor pairs. A fold without pairs has no part in the accuracy.
 */
export function weightedFigures(
  ranked: RankedPairs,
  weights: ArrayLike<number>,
  far: readonly number[],
): WeightedFigures | undefined {
  const { scores, genuine, fold, folds } = ranked;
  const n = scores.length;
  let [genuineTotal, impostorTotal] = [0, 0];
  const impostorOf = new Float64Array(folds);
  const totalOf = new Float64Array(folds);
  for (let i = 0; i < n; i++) {
    const [w, f] = [weights[i] as number, fold[i] as number];
    totalOf[f] = (totalOf[f] as number) + w;
    if (genuine[i]) genuineTotal += w;
    else {
      impostorTotal += w;
      impostorOf[f] = (impostorOf[f] as number) + w;
    }
  }
  if (genuineTotal === 0 || impostorTotal === 0) return undefined;

  const tarAt = far.map(() => 0);
  let [accepted, wrongly, auc, equalErrorRate] = [0, 0, 0, NaN];
  let [lastFar, lastTar] = [0, 0];
  // Right decisions beyond refusing all, overall and of each fold; for each fold the best of the others, and the rank it is reached at.
  let right = 0;
  const rightOf = new Float64Array(folds);
  const best = new Float64Array(folds);
  const bestEnd = new Int32Array(folds).fill(-1);
  const rightAtBest = new Float64Array(folds);
  for (let i = 0; i < n; i++) {
    const w = weights[i] as number;
    if (w > 0) {
      const [f, gain] = [fold[i] as number, genuine[i] ? w : -w];
      if (genuine[i]) accepted += w;
      else wrongly += w;
      right += gain;
      rightOf[f] = (rightOf[f] as number) + gain;
    }
    if (i + 1 < n && scores[i + 1] === scores[i]) continue;
    const [x, y] = [wrongly / impostorTotal, accepted / genuineTotal];
    if (x === lastFar && y === lastTar) continue;
    auc += ((x - lastFar) * (y + lastTar)) / 2;
    if (Number.isNaN(equalErrorRate) && x + y >= 1) {
      const share = (1 - lastFar - lastTar) / (x + y - lastFar - lastTar);
      equalErrorRate = lastFar + share * (x - lastFar);
    }
    for (let k = 0; k < far.length; k++) if (x <= (far[k] as number)) tarAt[k] = y;
    for (let f = 0; f < folds; f++) {
      const others = right - (rightOf[f] as number);
      if (others <= (best[f] as number)) continue;
      best[f] = others;
      bestEnd[f] = i;
      rightAtBest[f] = rightOf[f] as number;
    }
    [lastFar, lastTar] = [x, y];
  }

  let [sum, used] = [0, 0];
  for (let f = 0; f < folds; f++) {
    const total = totalOf[f] as number;
    if (total === 0) continue;
    used++;
    sum +=
      ((impostorOf[f] as number) +
        rightBeyond(ranked, weights, f, bestEnd[f] as number, rightAtBest[f] as number)) /
      total;
  }
  return { accuracy: sum / used, auc, equalErrorRate, tarAtFar: tarAt };
}

/**
 * Right decisions of fold f with the threshold midway between the scores of rank `end`, where the other folds are best, and of their next
 * pair: those up to `end`, which are `right`, and those between.
 */
function rightBeyond(
  { scores, genuine, fold }: RankedPairs,
  weights: ArrayLike<number>,
  f: number,
  end: number,
  right: number,
): number {
  if (end < 0) return 0; // all are refused
  const n = scores.length;
  let next = end + 1;
  while (next < n && (fold[next] === f || weights[next] === 0)) next++;
  // One of the others' pairs has the score of `end`: there they became better.
  const [high, low] = [scores[end] as number, next < n ? (scores[next] as number) : -Infinity];
  const middle = low + (high - low) / 2;
  const threshold = next === n ? -Infinity : middle > low ? middle : high;
  for (let i = end + 1; i < n && (scores[i] as number) >= threshold; i++)
    if (fold[i] === f) right += genuine[i] ? (weights[i] as number) : -(weights[i] as number);
  return right;
}

/** The interval that holds the middle share of the values; NaN of none. */
export function percentiles(values: readonly number[], level: number): Interval {
  const sorted = Float64Array.from(values).sort();
  // As many lie below as above.
  const beyond = Math.max(
    0,
    Math.min(Math.round(((1 - level) / 2) * sorted.length), (sorted.length - 1) >> 1),
  );
  return { low: sorted[beyond] ?? NaN, high: sorted[sorted.length - 1 - beyond] ?? NaN };
}

/** How often each of `count` units is drawn in `count` draws. */
export function drawCounts(count: number, seed: number, resample: number): Float64Array {
  const draws = new Draws(seed, purposes.bootstrap, 0, resample);
  const counts = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    const unit = draws.int(count);
    counts[unit] = (counts[unit] as number) + 1;
  }
  return counts;
}

/** @param identities of the pairs' images; undefined where they are not known */
export function bootstrapIntervals(
  pairs: ScoredPairs,
  fold: ArrayLike<number>,
  far: readonly number[],
  identities: PairIdentities | undefined,
  { resamples, seed, level = 0.95 }: BootstrapOptions,
): Intervals {
  if (!(resamples >= 1)) throw new UserError(`bootstrap: expected at least 1 resample, got ${resamples}`);
  const ranked = rankPairs(pairs, fold);
  const n = ranked.order.length;
  const weights = new Float64Array(n);
  const number = new Map<number, number>();
  const dense = (identity: number) => {
    if (!number.has(identity)) number.set(identity, number.size);
    return number.get(identity) as number;
  };
  const first = identities && Int32Array.from(ranked.order, (i) => dense(identities.first[i] as number));
  const second = identities && Int32Array.from(ranked.order, (i) => dense(identities.second[i] as number));
  const found: WeightedFigures[] = [];
  // A resample of very few people may lack a kind of pairs; it says nothing and another takes its place.
  for (let resample = 0; found.length < resamples && resample < 10 * resamples; resample++) {
    const counts = drawCounts(first ? number.size : n, seed, resample);
    for (let i = 0; i < n; i++) {
      const a = first ? (first[i] as number) : i;
      const b = second ? (second[i] as number) : a;
      weights[i] = a === b ? (counts[a] as number) : (counts[a] as number) * (counts[b] as number);
    }
    const figures = weightedFigures(ranked, weights, far);
    if (figures) found.push(figures);
  }
  if (found.length < resamples)
    throw new UserError(
      `bootstrap: expected resamples with genuine and impostor pairs, found ${found.length} among ${10 * resamples}; there are too few identities`,
    );
  const interval = (of: (figures: WeightedFigures) => number): Interval => percentiles(found.map(of), level);
  return {
    unit: identities ? 'identities' : 'pairs',
    resamples,
    level,
    accuracy: interval(({ accuracy }) => accuracy),
    auc: interval(({ auc }) => auc),
    equalErrorRate: interval(({ equalErrorRate }) => equalErrorRate),
    tarAtFar: far.map((_, k) => interval(({ tarAtFar }) => tarAtFar[k] as number)),
  };
}
