/** Scores of pairs from embeddings [n, D] of K groups, and confidences s [n, K]. */
import type { Pairs } from '../data/pairs.js';
import { UserError } from '../tensor/errors.js';
import type { ScoredPairs } from './metrics.js';

/** Embeddings of images or templates. Each group of a row has length 1, or the row is zero. */
export interface Features {
  /** [n, D] */
  readonly embedding: Float32Array;
  /** [n, K], where the experiment has confidences. */
  readonly confidence: Float32Array | undefined;
  /** D */
  readonly size: number;
  /** K */
  readonly groups: number;
}

export const scoreNames = ['cosine', 'group-cosine', 'uncertainty'] as const;
export type ScoreName = (typeof scoreNames)[number];

/** n of Features. */
export const countOf = ({ embedding, size }: Features): number => embedding.length / size;

/** The first row that no score can be made of, its embedding not finite or a confidence not finite and above 0; undefined without one. */
export function unusableRow({ embedding, confidence, size, groups }: Features): number | undefined {
  const value = embedding.findIndex((one) => !Number.isFinite(one));
  const s = confidence?.findIndex((one) => !(one > 0 && one < Infinity)) ?? -1;
  const rows = [...(value < 0 ? [] : [Math.floor(value / size)]), ...(s < 0 ? [] : [Math.floor(s / groups)])];
  return rows.length > 0 ? Math.min(...rows) : undefined;
}

/** @throws UserError when there are none. */
export function confidenceOf({ confidence }: Features): Float32Array {
  if (!confidence)
    throw new UserError(
      'evaluate.score: uncertainty needs confidences; this experiment has none (loss.type cosface or softmax)',
    );
  return confidence;
}

/** How each score is computed, in words. */
export function scoreDefinition(score: ScoreName, groups: number): string {
  if (score === 'uncertainty')
    return `mutual likelihood (Eq. 16) over ${groups} sub-embeddings, variance 1 / confidence`;
  if (score === 'group-cosine') return `mean cosine over ${groups} sub-embeddings`;
  return groups === 1
    ? 'cosine'
    : `cosine of the whole embeddings of ${groups} sub-embeddings, each of length 1`;
}

/** The cosine of the parts `begin` to `end` of two rows; 0 when one of them is zero. */
function cosine(x: Float32Array, a: number, y: Float32Array, b: number, length: number): number {
  let [dot, aa, bb] = [0, 0, 0];
  for (let i = 0; i < length; i++) {
    const [u, v] = [x[a + i] as number, y[b + i] as number];
    dot += u * v;
    aa += u * u;
    bb += v * v;
  }
  return aa * bb === 0 ? 0 : dot / Math.sqrt(aa * bb);
}

type Between = (a: number, b: number) => number;

/** The score of row a of one set with row b of another, in double precision. */
export function scoreBetween(first: Features, second: Features, score: ScoreName): Between {
  const { size, groups } = first;
  const [x, y] = [first.embedding, second.embedding];
  if (score === 'cosine') return (a, b) => cosine(x, a * size, y, b * size, size);
  const each = size / groups;
  if (score === 'group-cosine')
    return (a, b) => {
      let total = 0;
      for (let k = 0; k < size; k += each) total += cosine(x, a * size + k, y, b * size + k, each);
      return total / groups;
    };
  const [s, t] = [confidenceOf(first), confidenceOf(second)];
  return (a, b) => {
    let total = 0;
    for (let k = 0; k < groups; k++) {
      const variance = 1 / (s[a * groups + k] as number) + 1 / (t[b * groups + k] as number);
      let distance = 0;
      for (let i = k * each; i < (k + 1) * each; i++)
        distance += ((x[a * size + i] as number) - (y[b * size + i] as number)) ** 2;
      total -= distance / variance + each * Math.log(variance);
    }
    return total / 2;
  };
}

/** The score of every pair. */
export function scorePairs(features: Features, pairs: Pairs, score: ScoreName): ScoredPairs {
  const between = scoreBetween(features, features, score);
  return {
    scores: Float64Array.from(pairs.genuine, (_, i) =>
      between(pairs.first[i] as number, pairs.second[i] as number),
    ),
    genuine: pairs.genuine,
  };
}
