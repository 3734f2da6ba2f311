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

/** Keeps the highest of the scores added, each with a number that says what it is of, and counts all. */
export class HighestScores {
  #kept = new Float64Array(1024);
  #tags = new Int32Array(1024);
  #used = 0;
  /** Scores at most this are not among the highest. */
  #floor = -Infinity;
  total = 0;

  /** @param capacity how many are kept; a point that allows n false accepts needs n + 1 */
  constructor(readonly capacity: number) {}

  add(score: number, tag = 0): void {
    this.total++;
    if (score <= this.#floor && this.#used >= this.capacity) return;
    if (this.#used === this.#kept.length) this.#makeRoom();
    this.#kept[this.#used] = score;
    this.#tags[this.#used++] = tag;
  }

  #makeRoom(): void {
    const most = this.capacity + Math.max(1024, Math.min(this.capacity, 1_000_000));
    if (this.#kept.length < most) {
      const length = Math.min(most, 2 * this.#kept.length);
      const [kept, tags] = [new Float64Array(length), new Int32Array(length)];
      kept.set(this.#kept);
      tags.set(this.#tags);
      [this.#kept, this.#tags] = [kept, tags];
      return;
    }
    this.#floor = this.#kept.slice().sort()[this.#used - this.capacity] ?? -Infinity;
    // All above the floor stay, and of those at it as many as there is room for.
    let room = this.capacity;
    for (let i = 0; i < this.#used; i++) if ((this.#kept[i] as number) > this.#floor) room--;
    let to = 0;
    for (let i = 0; i < this.#used; i++) {
      const score = this.#kept[i] as number;
      if (score < this.#floor || (score === this.#floor && room-- <= 0)) continue;
      this.#kept[to] = score;
      this.#tags[to++] = this.#tags[i] as number;
    }
    this.#used = to;
  }

  /** The kept scores, highest first, and what they are of. */
  descending(): { scores: Float64Array; tags: Int32Array } {
    const order = Int32Array.from({ length: this.#used }, (_, i) => i)
      .sort((a, b) => (this.#kept[b] as number) - (this.#kept[a] as number) || a - b)
      .subarray(0, this.capacity);
    return {
      scores: Float64Array.from(order, (i) => this.#kept[i] as number),
      tags: Int32Array.from(order, (i) => this.#tags[i] as number),
    };
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
  const { scores: wrongs } = wrong.descending();
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
