/**
 * Operating points far out in the tail, where false accepts are rare: what share of the comparisons that should be accepted is, when
 * at most a stated share of those that should not be is. Of the latter only the highest scores are kept, so that billions may pass.
 */
import { UserError } from '../tensor/errors.js';

/** The most of `total` that are at most the share `limit` of it. */
export function allowed(limit: number, total: number): number {
  let count = Math.floor(limit * total);
  // 0.29 of 100 is 28.999999999999996 in doubles.
  while (count < total && (count + 1) / total <= limit) count++;
  while (count > 0 && count / total > limit) count--;
  return count;
}

/** Keeps the highest of the scores added, and counts all. */
export class HighestScores {
  #kept: Float64Array;
  #used = 0;
  /** Scores at most this are not among the highest. */
  #floor = -Infinity;
  total = 0;

  /** @param capacity how many are kept; a point that allows n false accepts needs n + 1 */
  constructor(readonly capacity: number) {
    this.#kept = new Float64Array(Math.min(2 * capacity, capacity + 1_000_000, 1024));
  }

  add(score: number): void {
    this.total++;
    if (score <= this.#floor && this.#used >= this.capacity) return;
    if (this.#used === this.#kept.length) this.#makeRoom();
    this.#kept[this.#used++] = score;
  }

  #makeRoom(): void {
    const most = Math.max(this.capacity + 1, Math.min(2 * this.capacity, this.capacity + 1_000_000));
    if (this.#kept.length < most) {
      const larger = new Float64Array(Math.min(most, 2 * this.#kept.length));
      larger.set(this.#kept);
      this.#kept = larger;
      return;
    }
    this.#kept.sort();
    this.#kept.copyWithin(0, this.#used - this.capacity, this.#used);
    this.#used = this.capacity;
    this.#floor = this.#kept[0] ?? -Infinity;
  }

  /** The kept scores, highest first. */
  descending(): Float64Array {
    return this.#kept.slice(0, this.#used).sort().reverse().subarray(0, this.capacity);
  }
}

export interface OperatingPoint {
  /** The share of false accepts asked for, and the one reached. */
  readonly limit: number;
  readonly reached: number;
  /** The share of what should be accepted that is. */
  readonly rate: number;
  /** The lowest score that is accepted; null where none is. */
  readonly threshold: number | null;
}

/**
 * The points with the largest rate at which at most each share of the scores in `wrong` is accepted. What is accepted are all scores
 * above some score, so that equal scores count against the system: a right one that equals the first wrong one too many is refused.
 * @param right scores that should be accepted; -Infinity is never
 * @throws UserError when one of both is empty, or `wrong` has not kept enough
 */
export function operatingPoints(
  right: Float64Array,
  wrong: HighestScores,
  limits: readonly number[],
): OperatingPoint[] {
  if (right.length === 0 || wrong.total === 0)
    throw new UserError(
      `operating point: expected comparisons of both kinds, got ${right.length} to accept and ${wrong.total} to refuse`,
    );
  const rights = Float64Array.from(right).sort();
  const wrongs = wrong.descending();
  return limits.map((limit) => {
    const count = allowed(limit, wrong.total);
    if (count >= wrong.capacity && wrong.total > wrong.capacity)
      throw new UserError(
        `operating point: expected the ${count + 1} highest of ${wrong.total} scores, got ${wrong.capacity}`,
      );
    const bound = wrongs[count] ?? -Infinity; // where all may be accepted
    const firstAbove = above(rights, bound);
    const reached = wrongs.findIndex((score) => score <= bound);
    const wrongAccepted = reached < 0 ? wrongs.length : reached;
    const lowest = Math.min(rights[firstAbove] ?? Infinity, wrongs[wrongAccepted - 1] ?? Infinity);
    return {
      limit,
      reached: wrongAccepted / wrong.total,
      rate: (rights.length - firstAbove) / rights.length,
      threshold: Number.isFinite(lowest) ? lowest : null,
    };
  });
}

/** The first index of an ascending array whose value is above `bound`. */
function above(ascending: Float64Array, bound: number): number {
  let [low, high] = [0, ascending.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ascending[middle] as number) > bound) high = middle;
    else low = middle + 1;
  }
  return low;
}
