// The roofline: each case's rate over its operations a byte, under the ceilings of the same run.
import { axis, colourOf, faint, ink, labels, legend, type Figure } from '../report/figure.js';
import type { Results } from './results.js';
import type { Timing } from './run.js';
import { ceilingsText, digits } from './table.js';

const families: readonly [name: string, matches: (kernel: string) => boolean][] = [
  ['convolution', (kernel) => kernel.startsWith('conv2d')],
  ['matrix product', (kernel) => kernel === 'matmul' || kernel === 'pair_scores'],
  ['margin softmax', (kernel) => kernel.startsWith('margin_softmax')],
  ['batch norm and PReLU', (kernel) => /^(batch_norm|prelu|bias)/.test(kernel)],
  ['the rest', () => true],
];

/** The family each kernel belongs to: the first that matches. */
const familyOf = (kernel: string): string => families.find(([, matches]) => matches(kernel))?.[0] ?? '';

/** Powers of ten around the values. */
function decades(values: readonly number[]): { min: number; max: number } {
  const logs = values.map(Math.log10);
  return { min: 10 ** Math.floor(Math.min(...logs)), max: 10 ** Math.ceil(Math.max(...logs)) };
}

/** Undefined where nothing that computes was timed. */
export function rooflineFigure(results: Results): Figure | undefined {
  const { ceilings } = results;
  const rates = ['multiply_add_rate', 'matrix_rate'];
  const timed = results.results.filter(
    (r): r is Timing => 'warm' in r && r.intensity > 0 && !rates.includes(r.kernel),
  );
  if (timed.length === 0) return undefined;
  const present = families.filter(([name]) => timed.some(({ kernel }) => familyOf(kernel) === name));
  const tops = [
    ['multiply-add', ceilings.multiplyAdd / 1e9],
    ...(ceilings.matrix === null ? [] : [['matrix instructions', ceilings.matrix / 1e9] as const]),
  ] as const;
  const [x, y] = [
    decades(timed.map((r) => r.intensity)),
    decades([...timed.map((r) => r.gflops), ...tops.map(([, top]) => top)]),
  ];
  const [slope] = [ceilings.copy / 1e9];
  /** From the left up the bandwidth, then along the rate. */
  const roof = (top: number) => [
    [x.min, Math.min(top, x.min * slope)],
    ...(top / slope > x.min && top / slope < x.max ? [[top / slope, top]] : []),
    [x.max, Math.min(top, x.max * slope)],
  ];
  return {
    id: 'roofline',
    title: 'Roofline',
    about:
      `Each point is a kernel at a shape: its rate over the operations it does for each byte it must move. The lines are what the ` +
      `measured ceilings allow: ${ceilingsText(results)}. Data in a cache and Winograd convolutions can be above them.`,
    width: 820,
    height: 480,
    option: {
      legend: { ...legend, data: present.map(([name]) => name) },
      grid: { left: 70, right: 30, top: 40, bottom: 55 },
      xAxis: axis('operations for each byte', { type: 'log', ...x, axisLabel: labels(digits) }),
      yAxis: axis('GFLOP/s', { type: 'log', ...y, nameGap: 50, axisLabel: labels(digits) }),
      series: [
        ...tops.map(([name, top], i) => ({
          type: 'line',
          data: roof(top),
          symbol: 'none',
          lineStyle: { color: ink, width: 1.5, type: i === 0 ? 'solid' : 'dashed' },
          endLabel: {
            show: true,
            formatter: `${name} ${digits(top)}`,
            color: faint,
            fontSize: 12,
            align: 'right',
            verticalAlign: 'bottom',
            offset: [-6, -3],
          },
          silent: true,
        })),
        ...present.map(([name], i) => ({
          type: 'scatter',
          name,
          symbolSize: 8,
          itemStyle: { color: colourOf(i), opacity: 0.85 },
          data: timed.filter(({ kernel }) => familyOf(kernel) === name).map((r) => [r.intensity, r.gflops]),
        })),
      ],
    },
    table: {
      head: ['kernel', 'shape', 'operations a byte', 'GFLOP/s', 'share of the ceiling'],
      rows: timed.map((r) => [
        ...[r.kernel, r.shape, digits(r.intensity), digits(r.gflops)],
        `${(100 * r.share).toFixed(0)} %`,
      ]),
    },
  };
}
