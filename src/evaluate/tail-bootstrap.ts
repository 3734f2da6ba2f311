/**
 * Bootstrap intervals of TAR at FAR where impostor pairs are so many that only the highest scores are kept. People are drawn as in
 * bootstrap.ts: with a person drawn w times, a genuine pair of theirs counts w times and an impostor pair the product of both.
 */
import { drawCounts, percentiles, type Interval } from './bootstrap.js';
import { allowed } from './operating-point.js';

/** The pairs of one part. People are numbered from 0; -1 is somebody who is not drawn but always there once, as distractors are. */
export interface TailPairs {
  /** Genuine pairs by descending score, -Infinity for those that can never be accepted, and the people of both sides. */
  readonly right: { readonly scores: Float64Array; readonly first: Int32Array; readonly second: Int32Array };
  /** The highest impostor pairs, the same way: `tailSize` says how many are wanted. */
  readonly wrong: { readonly scores: Float64Array; readonly first: Int32Array; readonly second: Int32Array };
  /** The weight of all impostor pairs, kept or not, when person p counts weights[p] times. */
  readonly wrongWeight: (weights: Float64Array) => number;
}

/**
 * How many of the highest of `total` impostor scores to keep for this largest FAR. A resample whose kept pairs weigh less than it may
 * accept counts the genuine pairs down to the lowest kept score, which is too few rather than too many.
 */
export const tailSize = (far: number, total: number): number =>
  Math.min(total, 2 * allowed(far, total) + 1000);

/** The share of a genuine pair's weight: a person's once for two templates of theirs, both where nobody knows that they are one. */
const pairWeight = (weights: Float64Array, a: number, b: number): number => {
  const [x, y] = [a < 0 ? 1 : (weights[a] as number), b < 0 ? 1 : (weights[b] as number)];
  return a === b && a >= 0 ? x : x * y;
};

/** TAR at each FAR of one resample, by the definition of `operatingPoints`; undefined when it lacks pairs of a kind. */
export function tailFigures(
  { right, wrong, wrongWeight }: TailPairs,
  weights: Float64Array,
  far: readonly number[],
): number[] | undefined {
  const total = wrongWeight(weights);
  const rightWeights = right.scores.map((_, i) =>
    pairWeight(weights, right.first[i] as number, right.second[i] as number),
  );
  const rightTotal = rightWeights.reduce((sum, w) => sum + w, 0);
  if (total === 0 || rightTotal === 0) return undefined;
  const limits = far.map((limit, at) => ({ limit, at })).sort((a, b) => a.limit - b.limit);
  const found = far.map(() => 0);
  let [next, passed, at, accepted] = [0, 0, 0, 0];
  for (const { limit, at: place } of limits) {
    // The first pair that takes the weight beyond the limit sets the bound: what scores higher is accepted.
    for (; next < wrong.scores.length; next++) {
      const w = pairWeight(weights, wrong.first[next] as number, wrong.second[next] as number);
      if ((passed + w) / total > limit) break;
      passed += w;
    }
    const bound =
      next < wrong.scores.length ? (wrong.scores[next] as number) : (wrong.scores.at(-1) ?? -Infinity);
    for (; at < right.scores.length && (right.scores[at] as number) > bound; at++)
      accepted += rightWeights[at] as number;
    found[place] = accepted / rightTotal;
  }
  return found;
}

/** Intervals of the mean over parts, whose people are the same. @param people how many are drawn from */
export function tailIntervals(
  parts: readonly TailPairs[],
  people: number,
  far: readonly number[],
  { resamples, seed, level = 0.95 }: { resamples: number; seed: number; level?: number },
): Interval[] {
  const drawn: number[][] = [];
  for (let resample = 0; resample < resamples; resample++) {
    const weights = drawCounts(people, seed, resample);
    // A part that a draw leaves without pairs of a kind says nothing.
    const figures = parts.flatMap((part) => {
      const one = tailFigures(part, weights, far);
      return one ? [one] : [];
    });
    if (figures.length > 0)
      drawn.push(far.map((_, k) => figures.reduce((sum, one) => sum + (one[k] ?? 0), 0) / figures.length));
  }
  return far.map((_, k) =>
    percentiles(
      drawn.map((one) => one[k] ?? NaN),
      level,
    ),
  );
}
