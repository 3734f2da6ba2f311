/** Confidence against how much of an image is left to see. */
import { axis, colourOf, labels, legend, ticks, type Figure } from '../figure.js';
import type { SeverityCurves, SeverityPoint } from '../severity.js';

const quantiles = [
  { key: 'high', name: 'upper quartile', width: 1.5, type: 'dashed' },
  { key: 'median', name: 'median', width: 2.5, type: 'solid' },
  { key: 'low', name: 'lower quartile', width: 1.5, type: 'dotted' },
] as const;

const share = (x: number) => `${Math.round(100 * x)} %`;

export function severityFigure({ images, blur, occlusion }: SeverityCurves): Figure {
  const sizes = ticks(
    blur.map(({ severity }) => severity),
    1,
  );
  const panels = [
    { points: blur, name: 'blur, kernel in pixels', more: sizes, left: 72 },
    { points: occlusion, name: 'blocks covered', more: { axisLabel: labels(share) }, left: 466 },
  ];
  const curve = (points: readonly SeverityPoint[], panel: number) =>
    quantiles.map(({ key, name, width, type }) => ({
      name,
      type: 'line',
      xAxisIndex: panel,
      yAxisIndex: panel,
      symbolSize: 5,
      data: points.map((point) => [point.severity, point[key]]),
      lineStyle: { width, type, color: colourOf(panel) },
      itemStyle: { color: colourOf(panel) },
    }));
  return {
    id: 'severity',
    title: 'Confidence against degradation',
    about: `Mean log confidence over the sub-embeddings, of ${images} test images as they are blurred (left) and covered by blocks (right). Lines that fall mean that the network knows what it can no longer see.`,
    width: 800,
    height: 320,
    option: {
      legend: { ...legend, icon: undefined, itemWidth: 28, data: quantiles.map(({ name }) => name) },
      grid: panels.map(({ left }) => ({ left, width: 304, top: 40, bottom: 50 })),
      xAxis: panels.map(({ name, points, more }, gridIndex) =>
        axis(name, {
          type: 'value',
          gridIndex,
          min: points[0]?.severity,
          max: points.at(-1)?.severity,
          splitLine: { show: false },
          ...more,
        }),
      ),
      yAxis: panels.map(({ points }, gridIndex) =>
        axis(gridIndex === 0 ? 'mean log confidence' : '', {
          type: 'value',
          gridIndex,
          nameGap: 50,
          // The numbers below have three digits: what differs by less is flat.
          ...ticks(
            points.flatMap(({ low, high }) => [low, high]),
            0.01,
          ),
        }),
      ),
      series: panels.flatMap(({ points }, panel) => curve(points, panel)),
    },
    table: {
      head: ['images', ...quantiles.map(({ name }) => name)],
      rows: [
        ...blur.map((point) => ({ name: `blur=${point.severity}`, point })),
        ...occlusion.map((point) => ({ name: `occlusion=${point.severity}`, point })),
      ].map(({ name, point }) => [name, ...quantiles.map(({ key }) => point[key].toFixed(3))]),
    },
  };
}
