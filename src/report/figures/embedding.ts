/** What the embedding is like inside: how far its sub-embeddings agree, and how sure each is of which images. */
import type { Correlation } from '../../evaluate/correlation.js';
import { axis, colourOf, faint, labels, legend, power, type Figure } from '../figure.js';

export function correlationFigure({ matrix, mean, images }: Correlation): Figure | undefined {
  const groups = Math.round(Math.sqrt(matrix.length));
  if (groups < 2 || mean === null) return undefined;
  const names = Array.from({ length: groups }, (_, i) => String(i + 1));
  return {
    id: 'correlation',
    title: 'Correlation of the sub-embeddings',
    about: `Of each image’s distance to its identity’s mean, between sub-embeddings, over ${images} clean images. Mean of the absolute values off the diagonal: ${mean.toFixed(3)}. Decorrelation (Eq. 11 to 13) makes it smaller.`,
    width: 460,
    height: 460,
    option: {
      grid: { left: 50, right: 20, top: 10, bottom: 90 },
      xAxis: axis('sub-embedding', { type: 'category', data: names, splitLine: { show: false } }),
      yAxis: axis('sub-embedding', {
        type: 'category',
        data: names,
        inverse: true,
        splitLine: { show: false },
      }),
      visualMap: {
        min: -1,
        max: 1,
        orient: 'horizontal',
        left: 'center',
        bottom: 0,
        text: ['1', '−1'],
        textStyle: { color: faint },
        inRange: { color: ['#b35806', '#f7f7f7', '#2166ac'] },
      },
      series: [
        {
          type: 'heatmap',
          data: Array.from(matrix, (value, at) => [
            at % groups,
            Math.floor(at / groups),
            Number(value.toFixed(3)),
          ]),
        },
      ],
    },
    table: {
      head: ['', ...names],
      rows: names.map((name, row) => [
        name,
        ...names.map((_, column) => (matrix[row * groups + column] ?? NaN).toFixed(2)),
      ]),
    },
  };
}

/** Mean confidence of each sub-embedding, for each version of the images: [K] each. */
export function confidenceFigure(
  versions: readonly { name: string; confidence: Float32Array; groups: number }[],
): Figure | undefined {
  const [first] = versions;
  if (!first) return undefined;
  const { groups } = first;
  const means = versions.map(({ name, confidence }) => {
    const sums = new Float64Array(groups);
    confidence.forEach((s, i) => (sums[i % groups] = (sums[i % groups] ?? 0) + s));
    return { name, values: Array.from(sums, (sum) => sum / (confidence.length / groups)) };
  });
  const names = Array.from({ length: groups }, (_, i) => String(i + 1));
  return {
    id: 'confidence',
    title: 'Confidence by sub-embedding and variation',
    about:
      'Mean confidence s = 1 / σ² of each sub-embedding over the test images, clean and degraded. A sub-embedding that is hurt by a variation should be less sure of it.',
    width: 760,
    height: 320,
    option: {
      legend,
      grid: { left: 60, right: 20, top: 40, bottom: 50 },
      xAxis: axis('sub-embedding', { type: 'category', data: names, splitLine: { show: false } }),
      yAxis: axis('mean confidence', { type: 'log', nameGap: 44, axisLabel: labels(power) }),
      series: means.map(({ name, values }, i) => ({
        name,
        type: 'scatter',
        symbolSize: 9,
        data: values,
        itemStyle: { color: colourOf(i) },
      })),
    },
    table: {
      head: ['images', ...names],
      rows: means.map(({ name, values }) => [name, ...values.map((s) => s.toPrecision(3))]),
    },
  };
}
