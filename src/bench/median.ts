// The median of measured times with a confidence interval that assumes no distribution: order statistics and the binomial
// distribution with p = 1/2 (Conover, Practical Nonparametric Statistics, 3rd ed., section 3.2).

export interface Median {
  median: number;
  /** Ends of the interval that holds the true median with at least the confidence asked for. */
  low: number;
  high: number;
}

/** So many values, at least, give an interval of 95 %. */
export const fewest = 6;

/** Undefined where there are too few values for an interval: `fewest` give 95 %. */
export function medianInterval(values: readonly number[], confidence = 0.95): Median | undefined {
  const sorted = [...values].sort((a, b) => a - b);
  const n = sorted.length;
  // The interval [x_k, x_(n+1-k)] misses the median with probability 2 P(Binomial(n, 1/2) < k).
  let [term, below, k] = [0.5 ** n, 0, 0];
  while (k <= n / 2 && 2 * (below + term) <= 1 - confidence) {
    below += term;
    term *= (n - k) / (k + 1);
    k++;
  }
  const [low, high] = [sorted[k - 1], sorted[n - k]];
  const [left, right] = [sorted[(n - 1) >> 1], sorted[n >> 1]];
  if (low === undefined || high === undefined || left === undefined || right === undefined) return undefined;
  return { median: (left + right) / 2, low, high };
}

/** The share-th quantile by linear interpolation between order statistics; NaN of nothing. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const place = share * (sorted.length - 1);
  const [low, high] = [sorted[Math.floor(place)] ?? NaN, sorted[Math.ceil(place)] ?? NaN];
  return low + (high - low) * (place - Math.floor(place));
}
