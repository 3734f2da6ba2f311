/**
 * The masks V_t (§3.3): for each of V variations a random share (one half) of the K groups is kept, the rest dropped. The
 * masks are pairwise different, drawn once from the run's seed, and saved with the checkpoint as uint8 [V, K].
 */
import { UserError } from '../tensor/errors.js';
import { Draws, purposes } from '../tensor/philox.js';

/** n over k, exact up to 2^53. */
function combinations(n: number, k: number): number {
  let count = 1;
  for (let i = 1; i <= k; i++) count = (count * (n - k + i)) / i;
  return count;
}

/** The masks row by row: 1 keeps a group, 0 drops it. */
export function drawMasks(count: number, groups: number, seed: number, share = 0.5): Uint8Array {
  const kept = Math.round(groups * share);
  if (kept < 1 || kept >= groups)
    throw new UserError(
      `masks: expected loss.masks.share of ${groups} loss.groups that keeps at least one and drops at least one, got ${share}; ` +
        'loss.lambda_cls=0 with loss.lambda_adv=0 needs no masks',
    );
  const available = combinations(groups, kept);
  if (count > available)
    throw new UserError(
      `masks: ${count} variations need as many different masks, but ${groups} groups (loss.groups) of which ${kept} are kept give ${available}`,
    );
  const draws = new Draws(seed, purposes.masks, 0, 0);
  const rows = new Map<string, number[]>();
  while (rows.size < count) {
    // The first `kept` places of a shuffled order (Fisher and Yates); a mask drawn before is drawn again.
    const order = Array.from({ length: groups }, (_, k) => k);
    for (let i = 0; i < kept; i++) {
      const j = i + draws.int(groups - i);
      [order[i], order[j]] = [order[j] as number, order[i] as number];
    }
    const keep = new Set(order.slice(0, kept));
    const row = Array.from({ length: groups }, (_, k) => (keep.has(k) ? 1 : 0));
    rows.set(row.join(''), row);
  }
  return Uint8Array.from([...rows.values()].flat());
}
