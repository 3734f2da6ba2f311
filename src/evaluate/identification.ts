/**
 * Identification: a probe is compared with every entry of a gallery. A probe whose person is in the gallery is mated.
 *   rank   1 + the entries of others that score as high as the best entry of the probe's person, or higher: ties count against
 *   CMC    share of the mated probes of at most that rank
 *   AP     mean over the n entries of the probe's person, i-th best, of i / (i + entries of others that score as high or higher)
 *   FPIR   share of the probes without a mate that have an entry at the threshold or above
 *   TPIR   share of the mated probes of rank 1 whose mate is at the threshold or above
 * A score of -Infinity is that of a template that could not be made: it is never found.
 */
import { Draws, purposes } from '../tensor/philox.js';
import { percentiles, type Interval } from './bootstrap.js';
import { allowed, HighestScores, operatingPoints, type OperatingPoint } from './operating-point.js';

export const identificationDefinitions = {
  rank:
    'share of the mated probes for which fewer than the stated number of gallery entries of others score as high as the best entry ' +
    'of the probe’s person, or higher; equal scores count against the system',
  meanAveragePrecision:
    'mean over mated probes of the average precision: mean over the person’s entries, i-th best, of i / (i + entries of others that ' +
    'score as high or higher), without interpolation',
  tpirAtFpir:
    'largest share of the mated probes of rank 1 accepted by any threshold that at most the stated share of the probes without a mate reach; ' +
    'a score is accepted when score >= threshold, nothing is interpolated',
} as const;

/** What a search of the gallery gave for one probe. */
export interface Search {
  /** Whether the probe's person is in the gallery. */
  readonly mated: boolean;
  /** Infinity when the mate cannot be found. */
  readonly rank: number;
  readonly averagePrecision: number;
  /** The score of the mate, or without one the highest of all. */
  readonly score: number;
}

/**
 * @param scores of the probe with each entry
 * @param gallery the person of each entry; -1 is a distractor, nobody's mate
 */
export function search(scores: ArrayLike<number>, gallery: Int32Array, person: number): Search {
  const mates: number[] = [];
  let highest = -Infinity;
  for (let i = 0; i < gallery.length; i++) {
    const score = scores[i] as number;
    if (gallery[i] === person && person >= 0) mates.push(score);
    else if (score > highest) highest = score;
  }
  if (mates.length === 0) return { mated: false, rank: Infinity, averagePrecision: 0, score: highest };
  mates.sort((a, b) => b - a);
  /** Entries of others that score as high as each mate, counting those below the mate before only. */
  const between = new Float64Array(mates.length);
  const lowest = mates[mates.length - 1] as number;
  if (highest >= lowest)
    for (let i = 0; i < gallery.length; i++) {
      const score = scores[i] as number;
      if (score < lowest || gallery[i] === person) continue;
      let at = mates.length - 1;
      while (at > 0 && score >= (mates[at - 1] as number)) at--;
      between[at] = (between[at] as number) + 1;
    }
  let [precision, before] = [0, 0];
  mates.forEach((mate, i) => {
    before += between[i] as number;
    if (mate > -Infinity) precision += (i + 1) / (i + 1 + before);
  });
  const [best = -Infinity] = mates;
  return {
    mated: true,
    rank: best === -Infinity ? Infinity : 1 + (between[0] as number),
    averagePrecision: precision / mates.length,
    score: best,
  };
}

export interface Identification {
  readonly gallery: number;
  readonly mated: number;
  readonly nonMated: number;
  /** NaN without mated probes, as the mean average precision. */
  readonly ranks: readonly { readonly rank: number; readonly rate: number }[];
  readonly meanAveragePrecision: number;
  /** Empty where every probe has a mate. */
  readonly open: readonly OperatingPoint[];
}

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** @param gallery how many entries were searched */
export function identification(
  searches: readonly Search[],
  gallery: number,
  ranks: readonly number[],
  fpir: readonly number[],
): Identification {
  const mated = searches.filter((one) => one.mated);
  const others = searches.filter((one) => !one.mated);
  const wrong = new HighestScores(allowed(Math.max(0, ...fpir), others.length) + 1);
  for (const { score } of others) wrong.add(score);
  const first = Float64Array.from(mated, ({ rank, score }) => (rank === 1 ? score : -Infinity));
  return {
    gallery,
    mated: mated.length,
    nonMated: others.length,
    ranks: ranks.map((rank) => ({ rank, rate: mean(mated.map((one) => Number(one.rank <= rank))) })),
    meanAveragePrecision: mean(mated.map((one) => one.averagePrecision)),
    open: mated.length > 0 && others.length > 0 ? operatingPoints(first, wrong, fpir) : [],
  };
}

/** Intervals of the figures, in their order. */
export interface IdentificationIntervals {
  readonly resamples: number;
  readonly level: number;
  readonly ranks: readonly Interval[];
  readonly meanAveragePrecision: Interval;
  readonly open: readonly Interval[];
}

function groupsOf(people: ArrayLike<number>): number[][] {
  const probesOf = new Map<number, number[]>();
  Array.from(people, (person, probe) => {
    const known = probesOf.get(person);
    if (known) known.push(probe);
    else probesOf.set(person, [probe]);
  });
  return [...probesOf.values()];
}

/** The interval of a mean of values, where people are drawn with all theirs. */
export function personIntervals(
  people: ArrayLike<number>,
  values: readonly number[],
  { resamples, seed, level = 0.95 }: { resamples: number; seed: number; level?: number },
): Interval {
  const groups = groupsOf(people).map((own) => ({
    sum: own.reduce((sum, i) => sum + (values[i] ?? 0), 0),
    count: own.length,
  }));
  const means = Array.from({ length: resamples }, (_, resample) => {
    const draws = new Draws(seed, purposes.bootstrap, 0, resample);
    let [sum, total] = [0, 0];
    for (let i = 0; i < groups.length; i++) {
      const group = groups[draws.int(groups.length)];
      sum += group?.sum ?? 0;
      total += group?.count ?? 0;
    }
    return sum / total;
  });
  return percentiles(means, level);
}

/**
 * Bootstrap intervals over the people of the probes, who are drawn with all their probes; the gallery stays. The figures are of each
 * draw as `figuresOf` computes them, the mean over several galleries where there are.
 * @param people the person of each probe
 */
export function identificationIntervals(
  people: ArrayLike<number>,
  figuresOf: (probes: readonly number[]) => Pick<Identification, 'ranks' | 'meanAveragePrecision' | 'open'>,
  { resamples, seed, level = 0.95 }: { resamples: number; seed: number; level?: number },
): IdentificationIntervals {
  const groups = groupsOf(people);
  const drawn = Array.from({ length: resamples }, (_, resample) => {
    const draws = new Draws(seed, purposes.bootstrap, 0, resample);
    return figuresOf(groups.flatMap(() => groups[draws.int(groups.length)] ?? []));
  });
  const [first] = drawn;
  const interval = (of: (one: (typeof drawn)[number]) => number | undefined): Interval => {
    // A draw without people of one kind says nothing about them.
    const known = drawn.map(of).filter((figure) => figure !== undefined && !Number.isNaN(figure));
    return percentiles(known as number[], level);
  };
  return {
    resamples,
    level,
    ranks: (first?.ranks ?? []).map((_, k) => interval((one) => one.ranks[k]?.rate)),
    meanAveragePrecision: interval((one) => one.meanAveragePrecision),
    open: Array.from({ length: Math.max(0, ...drawn.map((one) => one.open.length)) }, (_, k) =>
      interval((one) => one.open[k]?.rate),
    ),
  };
}
