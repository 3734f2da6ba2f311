/**
 * Confidence as a quality score: error against rejection (ISO/IEC 29794-1; "error versus discard"). Pairs are rejected by their
 * quality, lowest first; the threshold stays the one that the whole set has at a stated false accept rate. A useful quality makes the
 * rate of genuine pairs refused fall as pairs are rejected.
 *
 *     quality(image) = mean over the K sub-embeddings of log s        quality(pair) = the smaller of its images'
 */
import { roc, tarAtFar, type ScoredPairs } from './metrics.js';
import type { Features } from './scores.js';
import { confidenceOf } from './scores.js';

export const qualityDefinition =
  'mean over the sub-embeddings of the logarithm of the confidence; of a pair the smaller of both images';

/** The quality of every image [n]. */
export function imageQuality(features: Features): Float64Array {
  const { groups } = features;
  const confidence = confidenceOf(features);
  return Float64Array.from({ length: confidence.length / groups }, (_, image) => {
    let sum = 0;
    for (let k = 0; k < groups; k++) sum += Math.log(confidence[image * groups + k] as number);
    return sum / groups;
  });
}

export interface RejectCurve {
  /** The false accept rate that the threshold is of, and the threshold. */
  far: number;
  threshold: number;
  /** Shares of pairs rejected, from 0 by hundredths. */
  rejected: number[];
  /** Of the pairs kept: the share of genuine ones refused, and of impostors accepted; null where none is left. */
  falseReject: (number | null)[];
  falseAccept: (number | null)[];
  /** Mean of `falseReject` over the shares, divided by its value at 0: below 1 where the quality is of use. */
  relativeArea: number | null;
}

/**
 * @param quality of each pair
 * @param most the largest share rejected
 */
export function rejectCurve(
  pairs: ScoredPairs,
  quality: ArrayLike<number>,
  far: number,
  most = 0.5,
): RejectCurve {
  const { threshold } = tarAtFar(roc(pairs), far);
  const { scores, genuine } = pairs;
  const n = scores.length;
  // Of equal quality, the earlier pair goes first.
  const order = Uint32Array.from({ length: n }, (_, i) => i).sort(
    (a, b) => (quality[a] as number) - (quality[b] as number) || a - b,
  );
  const left = { genuine: 0, refused: 0, impostor: 0, accepted: 0 };
  const count = (i: number, by: number) => {
    const accept = (scores[i] as number) >= threshold;
    if (genuine[i]) {
      left.genuine += by;
      if (!accept) left.refused += by;
    } else {
      left.impostor += by;
      if (accept) left.accepted += by;
    }
  };
  for (let i = 0; i < n; i++) count(i, 1);
  const curve: RejectCurve = {
    far,
    threshold,
    rejected: [],
    falseReject: [],
    falseAccept: [],
    relativeArea: null,
  };
  let gone = 0;
  for (let step = 0; step <= Math.round(100 * most); step++) {
    while (gone < Math.floor((step * n) / 100)) count(order[gone++] as number, -1);
    curve.rejected.push(step / 100);
    curve.falseReject.push(left.genuine > 0 ? left.refused / left.genuine : null);
    curve.falseAccept.push(left.impostor > 0 ? left.accepted / left.impostor : null);
  }
  const known = curve.falseReject.filter((rate) => rate !== null);
  const start = curve.falseReject[0] ?? 0;
  if (start > 0) curve.relativeArea = known.reduce((sum, rate) => sum + rate, 0) / known.length / start;
  return curve;
}

/** The quality of each pair: the smaller of its images'. */
export function pairQuality(
  quality: ArrayLike<number>,
  pairs: { first: ArrayLike<number>; second: ArrayLike<number> },
): Float64Array {
  return Float64Array.from(pairs.first, (image, i) =>
    Math.min(quality[image] as number, quality[pairs.second[i] as number] as number),
  );
}
