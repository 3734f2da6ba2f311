// Verification: is a pair of images of one person? A pair has a score (higher: more alike) and is genuine or impostor. It is
// accepted at threshold t when score >= t, so pairs of equal score are accepted or refused together.
//   FAR(t) = accepted impostor pairs / impostor pairs      TAR(t) = accepted genuine pairs / genuine pairs
// `definitions` says in a sentence how each figure is measured; it goes into every result.
import { UserError } from '../tensor/errors.js';

export const definitions = {
  tarAtFar:
    'largest share of genuine pairs accepted by any threshold that accepts at most the stated share of impostor pairs; ' +
    'a pair is accepted when score >= threshold, nothing is interpolated',
  auc: 'probability that a genuine pair scores higher than an impostor pair, equal scores counting one half',
  equalErrorRate: 'error rate where FAR = 1 - TAR, linear between neighbouring points of the ROC',
  accuracy:
    'mean and population standard deviation over folds of the share of pairs decided rightly, with the threshold that decides ' +
    'most pairs of the other folds rightly (midway between two neighbouring scores, the highest of equally good ones)',
  correlation:
    'mean absolute Pearson correlation, over all pairs of different sub-embeddings and over all images, of the distance ' +
    '1 - cosine of a sub-embedding to that of its identity’s mean image',
} as const;

/** One pair's verdict is at the same index of both: its score, and whether it is genuine. */
export interface ScoredPairs {
  scores: ArrayLike<number>;
  genuine: ArrayLike<boolean>;
}

/** Operating points by descending threshold, from nothing accepted (threshold Infinity) to everything: one for each distinct score. */
export interface Roc {
  threshold: Float64Array;
  far: Float64Array;
  tar: Float64Array;
  genuinePairs: number;
  impostorPairs: number;
}

export function roc(pairs: ScoredPairs): Roc {
  const { genuinePairs, impostorPairs } = count(pairs);
  const [genuine, impostor] = [ascending(pairs, true), ascending(pairs, false)];
  const n = genuinePairs + impostorPairs + 1;
  const [threshold, far, tar] = [new Float64Array(n), new Float64Array(n), new Float64Array(n)];
  threshold[0] = Infinity;
  let points = 1;
  // Both sorted lists are merged from their ends; what is left of them is refused.
  let [g, i] = [genuinePairs, impostorPairs];
  while (g + i > 0) {
    const score = Math.max(g > 0 ? genuine[g - 1]! : -Infinity, i > 0 ? impostor[i - 1]! : -Infinity);
    while (g > 0 && genuine[g - 1] === score) g--;
    while (i > 0 && impostor[i - 1] === score) i--;
    threshold[points] = score;
    tar[points] = (genuinePairs - g) / genuinePairs;
    far[points] = (impostorPairs - i) / impostorPairs;
    points++;
  }
  return {
    threshold: threshold.subarray(0, points),
    far: far.subarray(0, points),
    tar: tar.subarray(0, points),
    genuinePairs,
    impostorPairs,
  };
}

export interface OperatingPoint {
  /** The false accept rate asked for, and the one reached: with n impostor pairs it is a multiple of 1/n. */
  far: number;
  reachedFar: number;
  tar: number;
  threshold: number;
}

export function tarAtFar(curve: Roc, far: number): OperatingPoint {
  // Both rates only grow along the curve, so the last point within the limit has the largest TAR.
  let at = 0;
  while (at + 1 < curve.far.length && curve.far[at + 1]! <= far) at++;
  return {
    far,
    reachedFar: curve.far[at]!,
    tar: curve.tar[at]!,
    threshold: curve.threshold[at]!,
  };
}

/** Area under the ROC by trapezoids, which counts ties one half. */
export function areaUnderCurve({ far, tar }: Roc): number {
  let area = 0;
  for (let i = 1; i < far.length; i++) area += ((far[i]! - far[i - 1]!) * (tar[i]! + tar[i - 1]!)) / 2;
  return area;
}

export function equalErrorRate({ far, tar }: Roc): number {
  // FAR - (1 - TAR) grows from -1 to 1: find where it crosses zero.
  const excess = (i: number) => far[i]! + tar[i]! - 1;
  let i = 1;
  while (excess(i) < 0) i++;
  const share = -excess(i - 1) / (excess(i) - excess(i - 1));
  return far[i - 1]! + share * (far[i]! - far[i - 1]!);
}

/** Fold of each pair: the genuine and the impostor pairs, each in their order, are cut into `folds` runs of almost equal length. */
export function stratifiedFolds(genuine: ArrayLike<boolean>, folds: number): Int32Array {
  const total = [0, 0];
  for (let i = 0; i < genuine.length; i++) total[Number(genuine[i])]!++;
  const seen = [0, 0];
  return Int32Array.from({ length: genuine.length }, (_, i) => {
    const kind = Number(genuine[i]);
    return Math.floor((seen[kind]!++ * folds) / total[kind]!);
  });
}

export interface FoldAccuracy {
  mean: number;
  std: number;
  folds: number[];
  /** The threshold used for each fold. */
  thresholds: number[];
}

/** `fold[i]` in 0..folds-1 is the fold of pair i. */
export function foldAccuracy(pairs: ScoredPairs, fold: ArrayLike<number>): FoldAccuracy {
  const { scores, genuine } = pairs;
  count(pairs);
  if (fold.length !== scores.length)
    throw new UserError(
      `accuracy: expected the fold of each of ${scores.length} pairs, got ${fold.length} folds`,
    );
  const order = descending(scores);
  const folds = Math.max(...new Set(Array.from(fold))) + 1;
  if (!(folds >= 2)) throw new UserError(`accuracy: expected at least 2 folds, got ${folds}`);
  const accuracies: number[] = [];
  const thresholds: number[] = [];
  for (let left = 0; left < folds; left++) {
    const threshold = bestThreshold(
      pairs,
      order.filter((i) => fold[i] !== left),
    );
    const tested = order.filter((i) => fold[i] === left);
    if (tested.length === 0 || tested.length === order.length)
      throw new UserError(
        `accuracy: expected pairs in each of ${folds} folds, got ${tested.length} of ${order.length} in fold ${left}`,
      );
    let right = 0;
    for (const i of tested) if (scores[i]! >= threshold === genuine[i]) right++;
    accuracies.push(right / tested.length);
    thresholds.push(threshold);
  }
  const mean = accuracies.reduce((sum, a) => sum + a, 0) / folds;
  const std = Math.sqrt(accuracies.reduce((sum, a) => sum + (a - mean) ** 2, 0) / folds);
  return { mean, std, folds: accuracies, thresholds };
}

/** `order`: pairs by descending score. Infinity refuses, and -Infinity accepts, all. */
function bestThreshold({ scores, genuine }: ScoredPairs, order: Uint32Array): number {
  // Right decisions with nothing accepted: all impostor pairs. Each accepted pair adds one when genuine and takes one when not.
  let right = 0;
  let best = 0;
  let threshold = Infinity;
  for (let i = 0; i < order.length; i++) {
    const score = scores[order[i]!]!;
    right += genuine[order[i]!] ? 1 : -1;
    const next = i + 1 < order.length ? scores[order[i + 1]!]! : -Infinity;
    if (next === score || right <= best) continue;
    best = right;
    threshold = next === -Infinity ? -Infinity : midway(next, score);
  }
  return threshold;
}

/** A number above `low` and at most `high`, in the middle where the two are far enough apart for one to exist. */
function midway(low: number, high: number): number {
  const middle = low + (high - low) / 2;
  return middle > low ? middle : high;
}

/** The scores of one kind of pairs. Numbers sort far faster than indices by their numbers, of which there may be millions. */
function ascending({ scores, genuine }: ScoredPairs, kind: boolean): Float64Array {
  const found = new Float64Array(scores.length);
  let n = 0;
  for (let i = 0; i < scores.length; i++) if (Boolean(genuine[i]) === kind) found[n++] = scores[i]!;
  return found.subarray(0, n).sort();
}

/** Indices of the scores, highest first. */
function descending(scores: ArrayLike<number>): Uint32Array {
  return Uint32Array.from({ length: scores.length }, (_, i) => i).sort(
    (a, b) => scores[b]! - scores[a]! || a - b,
  );
}

function count({ scores, genuine }: ScoredPairs): { genuinePairs: number; impostorPairs: number } {
  if (scores.length !== genuine.length)
    throw new UserError(
      `verification: expected one score for each of ${genuine.length} pairs, got ${scores.length}`,
    );
  let genuinePairs = 0;
  for (let i = 0; i < scores.length; i++) {
    if (!Number.isFinite(scores[i]))
      throw new UserError(`verification: the score of pair ${i} is ${scores[i]}, expected a finite number`);
    if (genuine[i]) genuinePairs++;
  }
  const impostorPairs = scores.length - genuinePairs;
  if (genuinePairs === 0 || impostorPairs === 0)
    throw new UserError(
      `verification: expected genuine and impostor pairs, got ${genuinePairs} genuine and ${impostorPairs} impostor`,
    );
  return { genuinePairs, impostorPairs };
}

/** All figures of one test. */
export interface Verification {
  genuinePairs: number;
  impostorPairs: number;
  accuracy: FoldAccuracy;
  auc: number;
  equalErrorRate: number;
  tarAtFar: OperatingPoint[];
}

/** `fold`: the fold of each pair, for example that of a protocol's file or stratifiedFolds; `far`: false accept rates to report. */
export function verification(
  pairs: ScoredPairs,
  fold: ArrayLike<number>,
  far: readonly number[],
): Verification {
  const curve = roc(pairs);
  return {
    genuinePairs: curve.genuinePairs,
    impostorPairs: curve.impostorPairs,
    accuracy: foldAccuracy(pairs, fold),
    auc: areaUnderCurve(curve),
    equalErrorRate: equalErrorRate(curve),
    tarAtFar: far.map((limit) => tarAtFar(curve, limit)),
  };
}
