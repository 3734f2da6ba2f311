// Optimiser steps, in place, of one large parameter and of many small ones; the gradient's norm and its clipping.
import type { Device } from '../../tensor/device.js';
import { tensor, type Tensor } from '../../tensor/tensor.js';
import { at, output, random, some, sumOver, type KernelCase, type Sizes } from '../case.js';

const [lr, decay] = [0.1, 5e-4];

/** `count` parameters of `each` numbers. */
interface Parameters {
  count: number;
  each: number;
}
const nameOf = ({ count, each }: Parameters) => (count === 1 ? `${each}` : `${count} x ${each}`);

/** One number for each number of the parameters: the tensors, and the values of the last of them. */
function list(device: Device, { count, each }: Parameters, offset: number, map = (draw: number) => draw) {
  const operands = Array.from({ length: count }, (_, i) =>
    random(device, [each], count * offset + i, { map }),
  );
  const { t: last, values } = operands.at(-1) ?? random(device, [0], offset);
  return { tensors: operands.map(({ t }): Tensor => t), last, values };
}

/** v <- 0.9 v + g / 2 + decay p; p <- p - lr v. */
function sgd(parameters: Parameters): KernelCase {
  const elements = parameters.count * parameters.each;
  return {
    kernel: 'sgd_step',
    shape: nameOf(parameters),
    operations: 7 * elements,
    bytes: 20 * elements,
    prepare(device) {
      const [p, v, g] = [
        list(device, parameters, 1),
        list(device, parameters, 2),
        list(device, parameters, 3),
      ];
      const scale = tensor(Float32Array.of(0.5), [1], { device });
      const next = (i: number) => 0.9 * at(v.values, i) + 0.5 * at(g.values, i) + decay * at(p.values, i);
      const tensors = [p.tensors, v.tensors, p.tensors, v.tensors, g.tensors] as const;
      return {
        run: () => device.kernels.sgd_step(...tensors, scale, lr, 0.9, decay),
        results: [
          { output: p.last, expected: (i) => at(p.values, i) - lr * next(i) },
          { output: v.last, expected: next },
        ],
      };
    },
  };
}

/** The first step of AdamW. */
function adamw(parameters: Parameters): KernelCase {
  const elements = parameters.count * parameters.each;
  const [beta1, beta2, epsilon, step] = [0.9, 0.999, 1e-8, 1];
  return {
    kernel: 'adamw_step',
    shape: nameOf(parameters),
    operations: 16 * elements,
    bytes: 28 * elements,
    prepare(device) {
      const [p, m, g] = [
        list(device, parameters, 1),
        list(device, parameters, 2),
        list(device, parameters, 3),
      ];
      const v = list(device, parameters, 4, Math.abs);
      const scale = tensor(Float32Array.of(1), [1], { device });
      const mean = (i: number) => beta1 * at(m.values, i) + (1 - beta1) * at(g.values, i);
      const variance = (i: number) => beta2 * at(v.values, i) + (1 - beta2) * at(g.values, i) ** 2;
      const change = (i: number) =>
        mean(i) / (1 - beta1) / (Math.sqrt(variance(i) / (1 - beta2)) + epsilon) + decay * at(p.values, i);
      const out = [p.tensors, m.tensors, v.tensors] as const;
      return {
        // prettier-ignore
        run: () => device.kernels.adamw_step(...out, ...out, g.tensors, scale, lr, beta1, beta2, epsilon, decay, step),
        results: [
          { output: p.last, expected: (i) => at(p.values, i) - lr * change(i) },
          { output: m.last, expected: mean },
          { output: v.last, expected: variance },
        ],
      };
    },
  };
}

function squareSums(parameters: Parameters): KernelCase {
  const { count, each } = parameters;
  return {
    kernel: 'square_sums',
    shape: nameOf(parameters),
    operations: 2 * count * each,
    bytes: 4 * count * each,
    prepare(device) {
      const { tensors } = list(device, parameters, 1);
      const y = output(device, [count]);
      const expected = (i: number) => {
        const values = random(device, [each], count + i).values;
        return sumOver(0, each, (j) => at(values, j) ** 2);
      };
      return {
        run: () => device.kernels.square_sums(y, tensors),
        results: [{ output: y, expected, samples: 1 }],
      };
    },
  };
}

function clipScale(count: number): KernelCase {
  return {
    kernel: 'clip_scale',
    shape: `${count}`,
    operations: count,
    bytes: 4 * count,
    prepare(device) {
      const squares = random(device, [count], 1, { map: Math.abs });
      const scale = output(device, [1]);
      const expected = () => 1 / Math.sqrt(sumOver(0, count, (i) => at(squares.values, i)));
      return {
        run: () => device.kernels.clip_scale(scale, squares.t, 1),
        results: [{ output: scale, expected }],
      };
    },
  };
}

export const optimizerCases = (sizes: Sizes): KernelCase[] => [
  ...some(sizes, [
    { count: 1, each: sizes.elements / 2 },
    { count: 256, each: sizes.elements / 1024 },
  ]).flatMap((parameters) => [sgd(parameters), adamw(parameters), squareSums(parameters)]),
  clipScale(256),
];
