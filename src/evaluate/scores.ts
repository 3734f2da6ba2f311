/** Scores of pairs from embeddings [n, D], whose K groups each have length 1, and confidences s [n, K]. */
import type { Pairs } from '../data/pairs.js';
import { UserError } from '../tensor/errors.js';
import type { ScoredPairs } from './metrics.js';

/** What is compared. */
export interface Embedded {
  readonly embedding: Float32Array;
  readonly confidence: Float32Array | undefined;
}

export type ScoreName = 'cosine' | 'uncertainty';

/** How each score is computed, in words. */
export function scoreDefinition(score: ScoreName, groups: number): string {
  if (score === 'uncertainty')
    return `mutual likelihood (Eq. 16) over ${groups} sub-embeddings, variance 1 / confidence`;
  return groups === 1 ? 'cosine' : `mean cosine over ${groups} sub-embeddings`;
}

/** The mean over the K groups of the cosine between sub-embeddings. */
export function meanCosine({ embedding }: Embedded, size: number, groups: number) {
  return (a: number, b: number): number => {
    let dot = 0;
    for (let k = 0; k < size; k++)
      dot += (embedding[a * size + k] as number) * (embedding[b * size + k] as number);
    return dot / groups;
  };
}

/** Eq. 16. */
export function mutualLikelihoodScore({ embedding, confidence }: Embedded, size: number, groups: number) {
  if (!confidence)
    throw new UserError(
      'evaluate.score: uncertainty needs confidences; this experiment has none (loss.type cosface or softmax)',
    );
  const each = size / groups;
  return (a: number, b: number): number => {
    let score = 0;
    for (let k = 0; k < groups; k++) {
      let distance = 0;
      for (let i = k * each; i < (k + 1) * each; i++)
        distance += ((embedding[a * size + i] as number) - (embedding[b * size + i] as number)) ** 2;
      const variance =
        1 / (confidence[a * groups + k] as number) + 1 / (confidence[b * groups + k] as number);
      score -= distance / variance + each * Math.log(variance);
    }
    return score / 2;
  };
}

/** The score of every pair. */
export function scorePairs(
  embedded: Embedded,
  pairs: Pairs,
  score: ScoreName,
  size: number,
  groups: number,
): ScoredPairs {
  const between = (score === 'cosine' ? meanCosine : mutualLikelihoodScore)(embedded, size, groups);
  return {
    scores: Float64Array.from(pairs.genuine, (_, i) =>
      between(pairs.first[i] as number, pairs.second[i] as number),
    ),
    genuine: pairs.genuine,
  };
}
