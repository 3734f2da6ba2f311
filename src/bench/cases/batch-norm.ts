// Batch normalisation of [rows, channels], with PReLU or a residual in the same pass; native/cpu/batch_norm.cpp has the formulas.
import type { Device } from '../../tensor/device.js';
import type { FloatType } from '../../tensor/dtype.js';
import {
  at,
  bytesFor,
  none,
  output,
  random,
  some,
  suffix,
  sumOver,
  type KernelCase,
  type Sizes,
} from '../case.js';
import { activations } from './layers.js';

interface Layer {
  rows: number;
  channels: number;
  dtype: FloatType;
}
const nameOf = ({ rows, channels, dtype }: Layer, more = '') =>
  `${rows} x ${channels}${more}${suffix(dtype)}`;

const [epsilon, momentum] = [1e-5, 0.1];

function statistics(layer: Layer): KernelCase {
  const { rows, channels, dtype } = layer;
  return {
    kernel: 'batch_norm_statistics',
    shape: nameOf(layer),
    operations: 4 * rows * channels,
    bytes: bytesFor(dtype, rows * channels),
    prepare(device) {
      const x = random(device, [rows, channels], 1, { dtype });
      const [mean0, variance0] = [random(device, [channels], 2), random(device, [channels], 3)];
      const vector = () => output(device, [channels]);
      const [mean, inverse, runningMean, runningVariance] = [vector(), vector(), vector(), vector()];
      const meanOf = (c: number) => sumOver(0, rows, (r) => at(x.values, r * channels + c)) / rows;
      const squares = (c: number, m = meanOf(c)) =>
        sumOver(0, rows, (r) => (at(x.values, r * channels + c) - m) ** 2);
      const blend = (before: number, now: number) => (1 - momentum) * before + momentum * now;
      // prettier-ignore
      const run = () => device.kernels.batch_norm_statistics(
        mean, inverse, runningMean, runningVariance, x.t, mean0.t, variance0.t, rows, channels, momentum, epsilon);
      return {
        run,
        results: [
          { output: mean, expected: meanOf },
          { output: inverse, expected: (c) => 1 / Math.sqrt(squares(c) / rows + epsilon) },
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

function inverseOf(channels: number): KernelCase {
  return {
    kernel: 'batch_norm_inverse',
    shape: `${channels}`,
    operations: 0,
    bytes: 8 * channels,
    prepare(device) {
      const variance = random(device, [channels], 1, { map: Math.abs });
      const inverse = output(device, [channels]);
      const expected = (c: number) => 1 / Math.sqrt(at(variance.values, c) + epsilon);
      return {
        run: () => device.kernels.batch_norm_inverse(inverse, variance.t, epsilon),
        results: [{ output: inverse, expected }],
      };
    },
  };
}

/** What forward and backward share: constants of the channels, h = (x - mean) inverse and z = gamma h + beta. */
function operands(device: Device, { rows, channels, dtype }: Layer) {
  const x = random(device, [rows, channels], 1, { dtype });
  const vector = (n: number, map?: (draw: number) => number) =>
    random(device, [channels], n, map ? { map } : {});
  const [mean, gamma, beta, slope] = [vector(2), vector(4), vector(5), vector(6)];
  const inverse = vector(3, (draw) => draw + 1.5);
  const h = (i: number) =>
    (at(x.values, i) - at(mean.values, i % channels)) * at(inverse.values, i % channels);
  const z = (i: number) => h(i) * at(gamma.values, i % channels) + at(beta.values, i % channels);
  return { x, mean, inverse, gamma, beta, slope, h, z };
}

function forward(layer: Layer, after: 'PReLU' | 'residual'): KernelCase {
  const { rows, channels, dtype } = layer;
  const prelu = after === 'PReLU';
  return {
    kernel: 'batch_norm_forward',
    shape: nameOf(layer, ` with ${after}`),
    operations: 4 * rows * channels,
    bytes: bytesFor(dtype, (prelu ? 2 : 3) * rows * channels),
    prepare(device) {
      const { x, mean, inverse, gamma, beta, slope, z } = operands(device, layer);
      const y = output(device, [rows, channels], dtype);
      const rest = random(device, prelu ? [0] : [rows, channels], 7, { dtype });
      const a = prelu ? slope.t : none(device);
      const vectors = [mean.t, inverse.t, gamma.t, beta.t, a] as const;
      const expected = (i: number) =>
        prelu ? z(i) * (z(i) > 0 ? 1 : at(slope.values, i % channels)) : z(i) + at(rest.values, i);
      return {
        run: () => device.kernels.batch_norm_forward(y, x.t, ...vectors, rest.t, rows, channels),
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
      const { x, mean, inverse, gamma, beta, slope, h, z } = operands(device, layer);
      const dy = random(device, [rows, channels], 8, { dtype });
      const dx = output(device, [rows, channels], dtype);
      const [dgamma, dbeta] = [output(device, [channels]), output(device, [channels])];
      const dslope = output(device, [prelu ? channels : 0]);
      const a = prelu ? slope.t : none(device);
      const g = (i: number) => at(dy.values, i) * (prelu && z(i) <= 0 ? at(slope.values, i % channels) : 1);
      const over = (c: number, f: (i: number) => number) => sumOver(0, rows, (r) => f(r * channels + c));
      const gammaOf = (c: number) => over(c, (i) => g(i) * h(i));
      const gradient = (i: number) => {
        const c = i % channels;
        const inner = g(i) - over(c, g) / rows - (h(i) * gammaOf(c)) / rows;
        return at(gamma.values, c) * at(inverse.values, c) * inner;
      };
      // prettier-ignore
      const run = () => device.kernels.batch_norm_backward(
        dx, dgamma, dbeta, dslope, dy.t, x.t, mean.t, inverse.t, gamma.t, beta.t, a, rows, channels, 1);
      return {
        run,
        results: [
          { output: dx, expected: gradient },
          { output: dgamma, expected: gammaOf },
          { output: dbeta, expected: (c) => over(c, g) },
          ...(prelu
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
  inverseOf(512),
  ...some(sizes, activations).flatMap(({ side, channels }) =>
    (['float32', 'bfloat16'] as const).flatMap((dtype) => {
      const layer = { rows: sizes.batch * side * side, channels, dtype };
      return [
        statistics(layer),
        forward(layer, 'PReLU'),
        forward(layer, 'residual'),
        backward(layer, true),
        backward(layer, false),
      ];
    }),
  ),
];
