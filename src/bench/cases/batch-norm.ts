// Batch normalisation of [rows, channels], with PReLU or a residual in the same pass; native/cpu/batch_norm.cpp has the formulas.
import type { Device } from '../../tensor/device.js';
import type { FloatType } from '../../tensor/dtype.js';
import { at, bytesFor, output, random, some, suffix, sumOver, type KernelCase, type Sizes } from '../case.js';
import { activations } from './layers.js';

interface Layer {
  rows: number;
  channels: number;
  dtype: FloatType;
}
const nameOf = ({ rows, channels, dtype }: Layer, more = '') =>
  `${rows} x ${channels}${more}${suffix(dtype)}`;

const [epsilon, momentum] = [1e-5, 0.1];

/** In training: the statistics of x and the result, in one call; alone, so that only x is read and y written. */
function training(layer: Layer): KernelCase {
  const { rows, channels, dtype } = layer;
  return {
    kernel: 'batch_norm_training',
    shape: nameOf(layer),
    operations: 6 * rows * channels,
    bytes: bytesFor(dtype, 2 * rows * channels),
    prepare(device) {
      const x = random(device, [rows, channels], 1, { dtype });
      const [mean0, variance0] = [random(device, [channels], 2), random(device, [channels], 3)];
      const [runningMean, runningVariance] = [output(device, [channels]), output(device, [channels])];
      const moments = output(device, [2, channels]);
      const y = output(device, [rows, channels], dtype);
      const meanOf = (c: number) => sumOver(0, rows, (r) => at(x.values, r * channels + c)) / rows;
      const squares = (c: number, m = meanOf(c)) =>
        sumOver(0, rows, (r) => (at(x.values, r * channels + c) - m) ** 2);
      const inverseOf = (c: number) => 1 / Math.sqrt(squares(c) / rows + epsilon);
      const blend = (before: number, now: number) => (1 - momentum) * before + momentum * now;
      const rest = [undefined, undefined, undefined, undefined, rows, channels, momentum, epsilon] as const;
      // prettier-ignore
      const run = () => device.kernels.batch_norm_training(
        y, undefined, moments, runningMean, runningVariance, x.t, undefined, mean0.t, variance0.t, ...rest);
      return {
        run,
        results: [
          {
            output: y,
            expected: (i) => (at(x.values, i) - meanOf(i % channels)) * inverseOf(i % channels),
          },
          { output: moments, expected: (i) => (i < channels ? meanOf(i) : inverseOf(i - channels)) },
          { output: runningMean, expected: (c) => blend(at(mean0.values, c), meanOf(c)) },
          {
            output: runningVariance,
            expected: (c) => blend(at(variance0.values, c), squares(c) / (rows - 1)),
          },
        ],
      };
    },
  };
}

function momentsOf(channels: number): KernelCase {
  return {
    kernel: 'batch_norm_moments',
    shape: `${channels}`,
    operations: 0,
    bytes: 16 * channels,
    prepare(device) {
      const mean = random(device, [channels], 2);
      const variance = random(device, [channels], 1, { map: Math.abs });
      const moments = output(device, [2, channels]);
      const expected = (i: number) =>
        i < channels ? at(mean.values, i) : 1 / Math.sqrt(at(variance.values, i - channels) + epsilon);
      return {
        run: () => device.kernels.batch_norm_moments(moments, mean.t, variance.t, epsilon),
        results: [{ output: moments, expected }],
      };
    },
  };
}

/** What forward and backward share: constants of the channels, h = (x - mean) inverse and z = gamma h + beta. */
function operands(device: Device, { rows, channels, dtype }: Layer) {
  const x = random(device, [rows, channels], 1, { dtype });
  const vector = (n: number) => random(device, [channels], n);
  const [gamma, beta, slope] = [vector(4), vector(5), vector(6)];
  const moments = random(device, [2, channels], 2, { map: (draw) => draw + 1.5 });
  const inverseOf = (c: number) => at(moments.values, channels + c);
  const h = (i: number) => (at(x.values, i) - at(moments.values, i % channels)) * inverseOf(i % channels);
  const z = (i: number) => h(i) * at(gamma.values, i % channels) + at(beta.values, i % channels);
  return { x, moments, inverseOf, gamma, beta, slope, h, z };
}

function forward(layer: Layer, after: 'PReLU' | 'residual'): KernelCase {
  const { rows, channels, dtype } = layer;
  const prelu = after === 'PReLU';
  return {
    kernel: 'batch_norm_forward',
    shape: nameOf(layer, ` with ${after}`),
    operations: 5 * rows * channels,
    bytes: bytesFor(dtype, (prelu ? 2 : 3) * rows * channels),
    prepare(device) {
      const { x, moments, gamma, beta, slope, z } = operands(device, layer);
      const y = output(device, [rows, channels], dtype);
      const rest = prelu ? undefined : random(device, [rows, channels], 7, { dtype });
      const operandsOf = [moments.t, gamma.t, beta.t, prelu ? slope.t : undefined, rest?.t] as const;
      const expected = (i: number) =>
        prelu ? z(i) * (z(i) > 0 ? 1 : at(slope.values, i % channels)) : z(i) + at(rest?.values ?? [], i);
      return {
        run: () => device.kernels.batch_norm_forward(y, x.t, ...operandsOf, rows, channels),
        results: [{ output: y, expected }],
      };
    },
  };
}

function backward(layer: Layer, prelu: boolean): KernelCase {
  const { rows, channels, dtype } = layer;
  return {
    kernel: 'batch_norm_backward',
    shape: nameOf(layer, prelu ? ' with PReLU' : ''),
    operations: (prelu ? 14 : 9) * rows * channels,
    bytes: bytesFor(dtype, 3 * rows * channels),
    prepare(device) {
      const { x, moments, inverseOf, gamma, beta, slope, h, z } = operands(device, layer);
      const dy = random(device, [rows, channels], 8, { dtype });
      const dx = output(device, [rows, channels], dtype);
      const [dgamma, dbeta] = [output(device, [channels]), output(device, [channels])];
      const dslope = prelu ? output(device, [channels]) : undefined;
      const a = prelu ? slope.t : undefined;
      const g = (i: number) => at(dy.values, i) * (prelu && z(i) <= 0 ? at(slope.values, i % channels) : 1);
      const over = (c: number, f: (i: number) => number) => sumOver(0, rows, (r) => f(r * channels + c));
      const gammaOf = (c: number) => over(c, (i) => g(i) * h(i));
      const gradient = (i: number) => {
        const c = i % channels;
        const inner = g(i) - over(c, g) / rows - (h(i) * gammaOf(c)) / rows;
        return at(gamma.values, c) * inverseOf(c) * inner;
      };
      // prettier-ignore
      const run = () => device.kernels.batch_norm_backward(
        dx, dgamma, dbeta, dslope, dy.t, x.t, moments.t, gamma.t, beta.t, a, undefined, rows, channels, 1);
      return {
        run,
        results: [
          { output: dx, expected: gradient },
          { output: dgamma, expected: gammaOf },
          { output: dbeta, expected: (c) => over(c, g) },
          ...(dslope
            ? [
                {
                  output: dslope,
                  expected: (c: number) => over(c, (i) => (z(i) > 0 ? 0 : z(i) * at(dy.values, i))),
                },
              ]
            : []),
        ],
      };
    },
  };
}

export const batchNormCases = (sizes: Sizes): KernelCase[] => [
  momentsOf(512),
  ...some(sizes, activations).flatMap(({ side, channels }) =>
    (['float32', 'bfloat16'] as const).flatMap((dtype) => {
      const layer = { rows: sizes.batch * side * side, channels, dtype };
      return [
        training(layer),
        forward(layer, 'PReLU'),
        forward(layer, 'residual'),
        backward(layer, true),
        backward(layer, false),
      ];
    }),
  ),
];
