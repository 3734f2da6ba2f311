/** Verification: the ROC, the scores of both kinds of pairs, and error against rejection. */
import { roc, type ScoredPairs } from '../../evaluate/metrics.js';
import type { RejectCurve } from '../../evaluate/reject.js';
import {
  axis,
  colourOf,
  curve,
  labels,
  legend,
  legendOf,
  line,
  power,
  ticks,
  type Figure,
} from '../figure.js';

export interface VersionScores {
  /** Run and version of the images. */
  readonly name: string;
  readonly pairs: ScoredPairs;
  readonly reject: RejectCurve | null;
}

const rates = [1e-4, 1e-3, 1e-2, 1e-1, 1];

export function rocFigure(versions: readonly VersionScores[]): Figure {
  const curves = versions.map(({ name, pairs }) => {
    const { far, tar, impostorPairs } = roc(pairs);
    // On a logarithmic axis a rate of 0 has no place: the curve begins at the first false accept.
    const points: [number, number][] = [];
    for (let i = 0; i < far.length; i++) {
      const [x, y] = [far[i] ?? 0, 100 * (tar[i] ?? 0)];
      if (x < 1 / impostorPairs || x < 1e-6) continue;
      const last = points.at(-1);
      if (last && Math.log10(x / last[0]) < 0.01) last[1] = y;
      else points.push([x, y]);
    }
    const at = (limit: number) => {
      let best = 0;
      for (let i = 0; i < far.length && (far[i] ?? 1) <= limit; i++) best = tar[i] ?? 0;
      return `${(100 * best).toFixed(2)} %`;
    };
    return { name, points, at };
  });
  const fewest = Math.max(
    ...versions.map(({ pairs }) => Array.from(pairs.genuine).filter((same) => !same).length),
  );
  const least = Math.max(1e-6, 10 ** Math.floor(Math.log10(1 / fewest)));
  const width = 560;
  const { legend, more } = legendOf(
    curves.map(({ name }) => name),
    width,
  );
  return {
    id: 'roc',
    title: 'ROC',
    about:
      'Share of genuine pairs accepted over the share of impostor pairs accepted, for every threshold. Higher and further left is better.',
    width,
    height: 420 + more,
    option: {
      legend,
      grid: { left: 60, right: 20, top: 60 + more, bottom: 50 },
      xAxis: axis('false accept rate', {
        type: 'log',
        min: least,
        max: 1,
        axisLabel: labels(power),
        splitLine: { show: true, lineStyle: { color: line } },
      }),
      yAxis: axis('genuine pairs accepted, %', { type: 'value', min: 0, max: 100, nameGap: 40 }),
      series: curves.map(({ name, points }, i) => ({
        name,
        data: points,
        step: 'end', // between two rates nothing is interpolated
        ...curve(i),
      })),
    },
    table: {
      head: ['images', ...rates.slice(0, 4).map((rate) => `TAR at FAR ${rate}`)],
      rows: curves.map(({ name, at }) => [name, ...rates.slice(0, 4).map(at)]),
    },
  };
}

export function histogramFigure({ name, pairs }: VersionScores, bins = 60): Figure {
  const { scores, genuine } = pairs;
  let [low, high] = [Infinity, -Infinity];
  for (let i = 0; i < scores.length; i++) {
    low = Math.min(low, scores[i] ?? low);
    high = Math.max(high, scores[i] ?? high);
  }
  const width = (high - low) / bins || 1;
  const counts = [new Float64Array(bins), new Float64Array(bins)] as const;
  const [totals, sums] = [
    [0, 0],
    [0, 0],
  ];
  for (let i = 0; i < scores.length; i++) {
    const kind = genuine[i] ? 1 : 0;
    const bin = Math.min(bins - 1, Math.floor(((scores[i] ?? low) - low) / width));
    counts[kind][bin] = (counts[kind][bin] ?? 0) + 1;
    totals[kind] = (totals[kind] ?? 0) + 1;
    sums[kind] = (sums[kind] ?? 0) + (scores[i] ?? 0);
  }
  const middle = (bin: number) => low + (bin + 0.5) * width;
  const share = (kind: 0 | 1) =>
    Array.from(counts[kind], (count, bin): [number, number] => [
      middle(bin),
      (100 * count) / (totals[kind] || 1),
    ]);
  const mean = (kind: 0 | 1) => (sums[kind] ?? 0) / (totals[kind] ?? 0);
  return {
    id: 'scores',
    title: 'Scores of pairs',
    about: `How the scores of genuine and impostor pairs lie (${name}), in ${bins} steps. The less they overlap, the better.`,
    width: 560,
    height: 320,
    option: {
      legend,
      grid: { left: 60, right: 20, top: 40, bottom: 50 },
      xAxis: axis('score', {
        type: 'value',
        splitLine: { show: false },
        ...ticks([low, high], 0.01),
      }),
      yAxis: axis('share of the pairs, %', { type: 'value', nameGap: 40 }),
      series: ([1, 0] as const).map((kind, i) => ({
        name: kind === 1 ? 'genuine' : 'impostor',
        type: 'line',
        step: 'middle',
        symbol: 'none',
        data: share(kind),
        areaStyle: { opacity: 0.25, color: colourOf(i) },
        lineStyle: { width: 1.5, color: colourOf(i) },
        itemStyle: { color: colourOf(i) },
      })),
    },
    table: {
      head: ['pairs', 'number', 'mean score'],
      rows: ([1, 0] as const).map((kind) => [
        kind === 1 ? 'genuine' : 'impostor',
        totals[kind] ?? 0,
        mean(kind).toFixed(3),
      ]),
    },
  };
}

export function rejectFigure(versions: readonly VersionScores[]): Figure | undefined {
  const curves = versions.flatMap(({ name, reject }) => (reject ? [{ name, reject }] : []));
  if (curves.length === 0) return undefined;
  const far = curves[0]?.reject.far ?? 0;
  const errors = curves.flatMap(({ reject }) =>
    reject.falseReject.flatMap((error) => (typeof error === 'number' ? [100 * error] : [])),
  );
  const at = (values: readonly (number | null)[], i: number) => {
    const value = values[i];
    return value === null || value === undefined ? '' : `${(100 * value).toFixed(2)} %`;
  };
  const width = 560;
  const { legend, more } = legendOf(
    curves.map(({ name }) => name),
    width,
  );
  return {
    id: 'reject',
    title: 'Error against rejection',
    about: `Genuine pairs refused when the pairs with the least confidence are left out, at the threshold of FAR ${far} of all pairs. A line that falls means that confidence knows which pairs are hard.`,
    width,
    height: 340 + more,
    option: {
      legend,
      grid: { left: 60, right: 20, top: 60 + more, bottom: 50 },
      xAxis: axis('pairs left out, %', { type: 'value', min: 0, max: 50, splitLine: { show: false } }),
      yAxis: axis('genuine pairs refused, %', { type: 'value', nameGap: 40, ...ticks(errors, 1, 100) }),
      series: curves.map(({ name, reject }, i) => ({
        name,
        ...curve(i),
        data: reject.rejected.flatMap((share, k) => {
          const error = reject.falseReject[k];
          return error === null || error === undefined ? [] : [[100 * share, 100 * error]];
        }),
      })),
    },
    table: {
      head: ['images', 'none left out', '20 %', '50 %', 'area against none'],
      rows: curves.map(({ name, reject }) => [
        name,
        ...[0, 20, 50].map((i) => at(reject.falseReject, i)),
        reject.relativeArea?.toFixed(3) ?? '',
      ]),
    },
  };
}
