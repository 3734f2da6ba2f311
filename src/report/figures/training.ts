/** How the training went: losses and accuracy over the steps, and where the time went. */
import type { Config } from '../../config/index.js';
import { phases } from '../../train/learner.js';
import { axis, colourOf, curve, labels, legend, legendOf, textWidth, ticks, type Figure } from '../figure.js';

export interface LogLine {
  readonly step: number;
  readonly values: Readonly<Record<string, number>>;
}

/** Means over some hundred stretches, so that a long run is no blot. */
function thinned(points: readonly (readonly [number, number])[], most = 160): [number, number][] {
  const each = Math.max(1, Math.ceil(points.length / most));
  return Array.from({ length: Math.ceil(points.length / each) }, (_, i) => {
    const part = points.slice(i * each, (i + 1) * each);
    const mean = (of: 0 | 1) => part.reduce((sum, point) => sum + point[of], 0) / part.length;
    return [Math.round(mean(0)), mean(1)];
  });
}

const seriesOf = (log: readonly LogLine[], key: string) =>
  thinned(
    log.flatMap(({ step, values }): [number, number][] => {
      const value = values[key];
      return value === undefined ? [] : [[step, value]];
    }),
  );

/** It ends with the last step, which has a label where it is a tick. */
function stepAxis(series: readonly { data: readonly [number, number][] }[]): Record<string, unknown> {
  const last = Math.max(...series.flatMap(({ data }) => data.map(([step]) => step)));
  const { interval, axisLabel } = ticks([0, last], 5);
  return axis('step', {
    type: 'value',
    min: 0,
    max: last,
    interval,
    axisLabel: { ...axisLabel, showMaxLabel: last % interval === 0 },
    splitLine: { show: false },
  });
}

/** The losses by their names in the log. */
const losses = [
  ['train/identification', 'identification'],
  ['train/classification', 'variations told'],
  ['train/adversarial', 'variations hidden'],
  ['train/discriminator', 'discriminator'],
  ['train/uncertainty', 'uncertainty'],
] as const;

/** Of a model of attributes. */
const attributeLosses = [
  ['train/attributes', 'attributes told'],
  ['train/adversarial', 'identity hidden'],
  ['train/discriminator', 'identity’s adversary'],
] as const;

/** One line for each loss; of several runs only the identification loss, a line for each run. */
export function lossFigure(runs: readonly { name: string; log: readonly LogLine[] }[]): Figure | undefined {
  const [only] = runs;
  const ofAttributes = only?.log.some(({ values }) => 'train/attributes' in values) === true;
  const all =
    runs.length === 1 && only
      ? (ofAttributes ? attributeLosses : losses).map(([key, name]) => ({
          name,
          data: seriesOf(only.log, key),
        }))
      : runs.map(({ name, log }) => ({ name, data: seriesOf(log, 'train/identification') }));
  const series = all.filter(({ data }) => data.some(([, value]) => value !== 0));
  if (series.length === 0) return undefined;
  const width = 760;
  const { legend, more } = legendOf(
    series.map(({ name }) => name),
    width,
  );
  return {
    id: 'losses',
    title: 'Losses',
    about:
      runs.length > 1
        ? 'The identification loss of each run that has it, mean over the images of the logged steps.'
        : `The losses, mean over the images of the logged steps. ${
            ofAttributes
              ? 'Eq. 15: the identity is hidden where its adversary is left guessing.'
              : 'Identification: Eq. 6 and 9; variations told and hidden: Eq. 12 and 13; discriminator: Eq. 11.'
          }`,
    width,
    height: 340 + more,
    option: {
      legend,
      grid: { left: 60, right: 20, top: 40 + more, bottom: 50 },
      xAxis: stepAxis(series),
      yAxis: axis('loss', { type: 'value', nameGap: 40 }),
      series: series.map((one, i) => ({
        ...one,
        ...curve(i),
      })),
    },
    table: {
      head: ['curve', 'first', 'last'],
      rows: series.map(({ name, data }) => [
        name,
        (data[0]?.[1] ?? NaN).toFixed(3),
        (data.at(-1)?.[1] ?? NaN).toFixed(3),
      ]),
    },
  };
}

export function speedFigure(runs: readonly { name: string; log: readonly LogLine[] }[]): Figure | undefined {
  const series = runs
    .map(({ name, log }) => ({
      name,
      data: seriesOf(log, 'speed/images_per_second'),
      waiting: seriesOf(log, 'speed/waiting_share'),
    }))
    .filter(({ data }) => data.length > 0);
  if (series.length === 0) return undefined;
  const mean = (points: [number, number][]) =>
    points.reduce((sum, [, value]) => sum + value, 0) / points.length;
  const width = 760;
  const { legend, more } = legendOf(
    series.map(({ name }) => name),
    width,
  );
  return {
    id: 'speed',
    title: 'Images a second',
    about: 'Training images a second at the logged steps, the loader included.',
    width,
    height: 260 + more,
    option: {
      legend: { ...legend, show: series.length > 1 },
      grid: { left: 60, right: 20, top: 30 + more, bottom: 50 },
      xAxis: stepAxis(series),
      yAxis: axis('images a second', { type: 'value', nameGap: 40, min: 0 }),
      series: series.map(({ name, data }, i) => ({
        name,
        data,
        ...curve(i),
      })),
    },
    table: {
      head: ['run', 'mean images a second', 'share of time waiting for images'],
      rows: series.map(({ name, data, waiting }) => [
        name,
        mean(data).toFixed(1),
        `${(100 * mean(waiting)).toFixed(1)} %`,
      ]),
    },
  };
}

const parts = ['waiting for images', ...phases] as const;

/** Mean milliseconds of a step by phase, a bar for each run. */
export function timeFigure(
  runs: readonly { name: string; log: readonly LogLine[]; config: Config }[],
): Figure | undefined {
  const split = runs
    .map(({ name, log, config: { train } }) => {
      const lines = log.filter(({ values }) => 'milliseconds/forward' in values);
      const mean = (of: (values: LogLine['values']) => number) =>
        lines.reduce((sum, { values }) => sum + of(values), 0) / lines.length;
      const images = train.batch_size * train.accumulate;
      const waiting = mean(
        (values) =>
          ((values['speed/waiting_share'] ?? 0) * 1000 * images) / (values['speed/images_per_second'] ?? NaN),
      );
      const spent = phases.map((phase) => mean((values) => values[`milliseconds/${phase}`] ?? 0));
      return { name, steps: lines.length, milliseconds: [waiting, ...spent] };
    })
    .filter(({ steps }) => steps > 0);
  if (split.length === 0) return undefined;
  const widest = 360;
  const longest = Math.min(widest, Math.max(...split.map(({ name }) => textWidth(name))));
  return {
    id: 'time',
    title: 'Where the time of a step goes',
    about: 'Milliseconds of a training step, mean over the logged steps.',
    width: 760,
    height: 110 + 40 * split.length,
    option: {
      legend: { ...legend, itemGap: 28 },
      grid: { left: longest + 16, right: 20, top: 40, bottom: 50 },
      xAxis: axis('milliseconds', { type: 'value' }),
      yAxis: axis('', {
        type: 'category',
        data: split.map(({ name }) => name),
        inverse: true,
        // On the server the width of a text is a guess, often too small.
        axisLabel: { ...labels(String), width: 0.8 * widest, overflow: 'breakAll' },
      }),
      series: parts.map((name, i) => ({
        name,
        type: 'bar',
        stack: 'step',
        barMaxWidth: 26,
        data: split.map(({ milliseconds }) => milliseconds[i]),
        itemStyle: { color: colourOf(i) },
      })),
    },
    table: {
      head: ['run', ...parts],
      rows: split.map(({ name, milliseconds }) => [name, ...milliseconds.map((ms) => `${ms.toFixed(1)} ms`)]),
    },
  };
}
