// PReLU and a bias for each channel, on the activations [rows, channels] of real layers.
import type { FloatType } from '../../tensor/dtype.js';
import { at, bytesFor, output, random, some, suffix, sumOver, type KernelCase, type Sizes } from '../case.js';
import { activations } from './layers.js';

function preluForward(rows: number, channels: number, dtype: FloatType): KernelCase {
  return {
    kernel: 'prelu_forward',
    shape: `${rows} x ${channels}${suffix(dtype)}`,
    operations: rows * channels,
    bytes: bytesFor(dtype, 2 * rows * channels),
    prepare(device) {
      const [x, slope] = [random(device, [rows, channels], 1, { dtype }), random(device, [channels], 2)];
      const y = output(device, [rows, channels], dtype);
      const expected = (i: number) =>
        at(x.values, i) * (at(x.values, i) > 0 ? 1 : at(slope.values, i % channels));
      return {
        run: () => device.kernels.prelu_forward(y, x.t, slope.t, rows, channels),
        results: [{ output: y, expected }],
      };
    },
  };
}

function preluBackward(rows: number, channels: number, dtype: FloatType): KernelCase {
  return {
    kernel: 'prelu_backward',
    shape: `${rows} x ${channels}${suffix(dtype)}`,
    operations: 3 * rows * channels,
    bytes: bytesFor(dtype, 3 * rows * channels),
    prepare(device) {
      const [x, dy] = [1, 2].map((n) => random(device, [rows, channels], n, { dtype })) as [
        ReturnType<typeof random>,
        ReturnType<typeof random>,
      ];
      const slope = random(device, [channels], 3);
      const [dx, dslope] = [output(device, [rows, channels], dtype), output(device, [channels])];
      const negative = (i: number) => at(x.values, i) <= 0;
      return {
        run: () => device.kernels.prelu_backward(dx, dslope, dy.t, x.t, slope.t, rows, channels),
        results: [
          {
            output: dx,
            expected: (i) => at(dy.values, i) * (negative(i) ? at(slope.values, i % channels) : 1),
          },
          {
            output: dslope,
            expected: (c) =>
              sumOver(0, rows, (r) => {
                const i = r * channels + c;
                return negative(i) ? at(x.values, i) * at(dy.values, i) : 0;
              }),
          },
        ],
      };
    },
  };
}

function biasForward(rows: number, channels: number): KernelCase {
  return {
    kernel: 'bias_forward',
    shape: `${rows} x ${channels}`,
    operations: rows * channels,
    bytes: 8 * rows * channels,
    prepare(device) {
      const [x, bias] = [random(device, [rows, channels], 1), random(device, [channels], 2)];
      const y = output(device, [rows, channels]);
      const expected = (i: number) => at(x.values, i) + at(bias.values, i % channels);
      return {
        run: () => device.kernels.bias_forward(y, x.t, bias.t, rows, channels),
        results: [{ output: y, expected }],
      };
    },
  };
}

function biasBackward(rows: number, channels: number): KernelCase {
  return {
    kernel: 'bias_backward',
    shape: `${rows} x ${channels}`,
    operations: rows * channels,
    bytes: 4 * rows * channels,
    prepare(device) {
      const dy = random(device, [rows, channels], 1);
      const dbias = output(device, [channels]);
      const expected = (c: number) => sumOver(0, rows, (r) => at(dy.values, r * channels + c));
      return {
        run: () => device.kernels.bias_backward(dbias, dy.t, rows, channels),
        results: [{ output: dbias, expected }],
      };
    },
  };
}

export const preluCases = (sizes: Sizes): KernelCase[] => [
  ...some(sizes, activations).flatMap(({ side, channels }) => {
    const rows = sizes.batch * side * side;
    return (['float32', 'bfloat16'] as const).flatMap((dtype) => [
      preluForward(rows, channels, dtype),
      preluBackward(rows, channels, dtype),
    ]);
  }),
  biasForward(sizes.elements / 512, 512),
  biasBackward(sizes.elements / 512, 512),
];
