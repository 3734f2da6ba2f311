/** A sweep: what each arm reaches on each version of the test images, with the interval over its seeds. */
import type { CellResult } from '../../ablate/results.js';
import { estimate, type Estimate } from '../../ablate/statistics.js';
import { axis, categoryLabels, fill, ink, legendOf, plainName, ticks, type Figure } from '../figure.js';

const [barGap, barCategoryGap] = ['10%', '25%'];

/** What ECharts gives to draw a shape of one's own with. */
interface Drawing {
  value(dimension: number): number;
  coord(point: [number, number]): [number, number];
  barLayout(options: { count: number; barGap: string; barCategoryGap: string }): { offsetCenter: number }[];
}

/** A line from mean - margin to mean + margin on each bar of the arm. */
function whiskers(
  values: readonly (Estimate | undefined)[],
  margins: readonly number[],
  arm: number,
  arms: number,
) {
  return {
    type: 'custom',
    z: 10,
    silent: true,
    clip: true,
    data: values.flatMap((value, k) => {
      const margin = margins[k] ?? 0;
      return value && margin > 0 ? [[k, value.mean - margin, value.mean + margin]] : [];
    }),
    renderItem: (_: unknown, api: Drawing) => {
      const offset = api.barLayout({ count: arms, barGap, barCategoryGap })[arm]?.offsetCenter ?? 0;
      const [x, low] = api.coord([api.value(0), api.value(1)]);
      const [, high] = api.coord([api.value(0), api.value(2)]);
      const style = { stroke: ink, lineWidth: 1.2 };
      const stroke = (x1: number, y1: number, x2: number, y2: number) => ({
        type: 'line',
        shape: { x1: x + offset + x1, y1, x2: x + offset + x2, y2 },
        style,
      });
      return {
        type: 'group',
        children: [stroke(0, low, 0, high), stroke(-4, low, 4, low), stroke(-4, high, 4, high)],
      };
    },
  };
}

/** The accuracy of every cell of a test, as bars of the means with 95 % intervals (Student's t) where there are two seeds or more. */
export function ablationFigure(name: string, test: string, cells: readonly CellResult[]): Figure {
  const labels = [...new Set(cells.map(({ label }) => label))];
  const versions = [...new Set(cells.flatMap(({ tests }) => Object.keys(tests[test] ?? {})))];
  const bars = labels.map((label) => ({
    label,
    values: versions.map((version) => {
      const found = cells.flatMap((cell) => {
        const accuracy = cell.label === label ? cell.tests[test]?.[version]?.['accuracy'] : undefined;
        return accuracy === undefined ? [] : [100 * accuracy];
      });
      return found.length > 0 ? estimate(found) : undefined;
    }),
  }));
  const margins = bars.map(({ values }) => values.map((value) => (value && value.n > 1 ? value.margin : 0)));
  const seeds = labels.map((label) => cells.filter((cell) => cell.label === label).length);
  const all = bars.flatMap(({ values }) => values.flatMap((value) => (value ? [value.mean] : [])));
  const highest = Math.max(
    ...bars.flatMap(({ values }, i) =>
      values.flatMap((value, k) => (value ? [value.mean + (margins[i]?.[k] ?? 0)] : [])),
    ),
  );
  const width = 760;
  const { legend, more: above } = legendOf(labels, width);
  const { axisLabel, more: below } = categoryLabels(versions, width - 80);
  return {
    id: `ablation-${plainName(test).toLowerCase()}`,
    title: `${name}: accuracy on ${test}`,
    about: `Mean over seeds (${labels.map((label, i) => `${label}: ${seeds[i] ?? 0}`).join(', ')}) of the share of pairs decided rightly. Whiskers: 95 % interval of the mean, cut where the picture ends; none where there is one seed, or all seeds agree. The axis does not begin at 0.`,
    width,
    height: 360 + above + below,
    option: {
      legend: { ...legend, icon: 'roundRect' },
      grid: { left: 60, right: 20, top: 40 + above, bottom: 50 + below },
      xAxis: axis('test images', {
        type: 'category',
        data: versions,
        splitLine: { show: false },
        axisLabel,
        nameGap: 30 + below,
      }),
      yAxis: axis('accuracy, %', {
        type: 'value',
        nameGap: 40,
        ...ticks([Math.max(0, Math.floor(Math.min(...all) / 5) * 5 - 5), Math.min(100, highest)], 5),
      }),
      series: [
        ...bars.map(({ label, values }, i) => ({
          name: label,
          type: 'bar',
          data: values.map((value) => value?.mean ?? '-'),
          itemStyle: fill(i),
          barGap,
          barCategoryGap,
        })),
        ...bars.map(({ values }, i) => whiskers(values, margins[i] ?? [], i, bars.length)),
      ],
    },
    table: {
      head: ['arm', ...versions],
      rows: bars.map(({ label, values }, i) => [
        label,
        ...values.map((value, k) =>
          value
            ? `${value.mean.toFixed(2)}${value.n > 1 ? ` ± ${(margins[i]?.[k] ?? 0).toFixed(2)}` : ' (one seed)'}`
            : 'missing',
        ),
      ]),
    },
  };
}
