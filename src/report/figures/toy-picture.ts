/** The picture of the toy of C-Softmax: one identity's samples and prototypes on the circle, and how near all prototypes come. */
import { axis, colourOf, faint, ink, labels, legend, type Figure } from '../figure.js';
import { toy, type Toy } from './toy.js';

const seeds = [1, 2, 3, 4];
const [clean, poor, plain, confident] = ['clean', 'poor', 'plain softmax', 'with confidences'];
const onCircle = (angle: number, radius = 1) => [
  radius * Math.cos((angle * Math.PI) / 180),
  radius * Math.sin((angle * Math.PI) / 180),
];
const end = (toy: Toy, run: 0 | 1) => toy.runs[run].distance.at(-1) ?? NaN;
const best = (toy: Toy) =>
  toy.plainByScale.reduce((nearest, one) => (one.distance < nearest.distance ? one : nearest));

/** The picture shows the first seed's first identity; the table has each seed. The same on every call. */
export function toyFigure(): Figure {
  const toys = seeds.map((seed) => ({ seed, toy: toy({ seed }) }));
  const { samples, runs, cleanDirections } = (toys[0] as (typeof toys)[number]).toy;
  const points = (wanted: boolean) =>
    samples
      .filter((one) => one.identity === 0 && one.clean === wanted)
      .map(({ angle }) => onCircle(angle, wanted ? 1 : 0.94));
  const quality = (name: string, wanted: boolean, colour: string) => ({
    name,
    type: 'scatter',
    symbol: wanted ? 'circle' : 'diamond',
    symbolSize: 8,
    itemStyle: { color: colour, opacity: 0.75 },
    data: points(wanted),
  });
  const arrow = (name: string, angle: number, colour: string, type = 'solid') => ({
    name,
    type: 'line',
    symbol: 'none',
    color: colour,
    lineStyle: { width: 2.5, color: colour, type },
    data: [[0, 0], onCircle(angle, 0.88)],
  });
  const curve = (name: string, run: 0 | 1, colour: string) => ({
    name,
    type: 'line',
    xAxisIndex: 1,
    yAxisIndex: 1,
    symbol: 'none',
    color: colour,
    lineStyle: { width: 2.5, color: colour, type: run === 0 ? 'dashed' : 'solid' },
    data: runs[run].distance.map((degrees, step) => [step, degrees]),
  });
  const bare = { type: 'value', min: -1.1, max: 1.1, show: false };
  return {
    id: 'toy',
    title: 'C-Softmax in two dimensions',
    about:
      'A toy, not a measurement of this run: 8 generated identities on the circle, each with 24 clean samples and 24 poor ones that ' +
      'drifted by 20 degrees and scatter. Left: one identity, its prototypes as learned with plain softmax and with confidences, and its ' +
      'clean direction (dotted). Right: degrees from prototypes to clean directions, mean over the identities, by step (seed 1; after 300 steps the run with confidences still falls). ' +
      'The table has four seeds, and plain softmax at the best of the constant scales 2 to 32; with 4 identities instead of 8 a small ' +
      'constant scale came as near or nearer.',
    width: 800,
    height: 380,
    option: {
      legend: { ...legend, data: [clean, poor, plain, confident], icon: undefined, itemWidth: 28 },
      grid: [
        { left: 20, top: 50, width: 310, height: 310 },
        { left: 420, right: 30, top: 50, bottom: 55 },
      ],
      xAxis: [bare, { type: 'value', max: 300, gridIndex: 1, ...axis('step') }],
      yAxis: [
        bare,
        {
          type: 'value',
          min: 0,
          gridIndex: 1,
          ...axis('degrees', { nameGap: 36, axisLabel: labels((x) => String(x)) }),
        },
      ],
      series: [
        {
          type: 'line',
          symbol: 'none',
          silent: true,
          lineStyle: { width: 1, color: faint },
          data: Array.from({ length: 121 }, (_, i) => onCircle(3 * i)),
        },
        arrow('clean direction', cleanDirections[0] ?? NaN, ink, 'dotted'),
        quality(clean, true, colourOf(2)),
        quality(poor, false, colourOf(3)),
        arrow(plain, runs[0].prototypes[0] ?? NaN, colourOf(1), 'dashed'),
        arrow(confident, runs[1].prototypes[0] ?? NaN, colourOf(0)),
        curve(plain, 0, colourOf(1)),
        curve(confident, 1, colourOf(0)),
      ],
    },
    table: {
      head: [
        'seed',
        'plain, scale 8',
        'plain, best scale',
        'its scale',
        'with confidences',
        's clean',
        's poor',
      ],
      rows: toys.map(({ seed, toy }) => [
        seed,
        end(toy, 0).toFixed(1),
        best(toy).distance.toFixed(1),
        best(toy).scale,
        end(toy, 1).toFixed(1),
        (toy.samples.find((one) => one.clean)?.confidence ?? NaN).toFixed(1),
        (toy.samples.find((one) => !one.clean)?.confidence ?? NaN).toFixed(1),
      ]),
    },
  };
}
