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
  const order = Uint32Array.from({ length: n }, (_, i) => i).sort(
    (a, b) => (quality[a] as number) - (quality[b] as number),
  );
  /** Genuine pairs, those refused, impostors, those accepted. */
  type Counts = [number, number, number, number];
  const nothing = (): Counts => [0, 0, 0, 0];
  const add = (counts: Counts, pair: number) => {
    const accepted = (scores[pair] as number) >= threshold;
    if (genuine[pair]) {
      counts[0]++;
      if (!accepted) counts[1]++;
    } else {
      counts[2]++;
      if (accepted) counts[3]++;
    }
  };
  const all = nothing();
  for (let pair = 0; pair < n; pair++) add(all, pair);
  const curve: RejectCurve = {
    far,
    threshold,
    rejected: [],
    falseReject: [],
    falseAccept: [],
    relativeArea: null,
  };
  // Pairs of one quality go together, each in part where not all of them are to go: their order says nothing.
  let [begin, end] = [0, 0];
  const gone = nothing();
  let going = nothing();
  for (let step = 0; step <= Math.round(100 * most); step++) {
    const count = Math.floor((step * n) / 100);
    while (end < count) {
      going.forEach((value, k) => (gone[k] = (gone[k] as number) + value));
      going = nothing();
      begin = end;
      const level = quality[order[begin] as number];
      while (end < n && quality[order[end] as number] === level) add(going, order[end++] as number);
    }
    const part = end > begin ? (count - begin) / (end - begin) : 0;
    const left = all.map((value, k) => value - (gone[k] as number) - part * (going[k] as number)) as Counts;
    curve.rejected.push(step / 100);
    curve.falseReject.push(left[0] > 0 ? left[1] / left[0] : null);
    curve.falseAccept.push(left[2] > 0 ? left[3] / left[2] : null);
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
