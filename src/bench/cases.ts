// What `turl bench` times: kernels at the shapes of real networks, each with a naive formula in double precision for single
// elements of its result. B samples, images [B, side, side, channels] (NHWC), N classes, D features, K groups.
import type { Device } from '../tensor/device.js';
import type { DType } from '../tensor/dtype.js';
import type { KernelName } from '../tensor/kernels.js';
import { Draws } from '../tensor/philox.js';
import { sizeOf, type Shape } from '../tensor/shape.js';
import { empty, tensor, type Tensor } from '../tensor/tensor.js';

export interface KernelCase {
  kernel: KernelName;
  shape: string;
  /** Additions and multiplications that the formula needs; 0 where memory alone matters. */
  operations: number;
  /** Bytes of every input read once and every output written once: the least that can be moved. */
  bytes: number;
  /** Left out by `--quick`. */
  slow?: true;
  /** Makes the tensors inside the caller's scope. */
  prepare(device: Device): Prepared;
}

export interface Prepared {
  run: () => void;
  output: Tensor;
  /** Element `i` of the output of the first run by the formula; an optimiser's later runs go on from there. */
  expected: (i: number) => number;
}

type Case = Omit<KernelCase, 'kernel'>;
type Values = ArrayLike<number>;
const at = (values: Values, i: number): number => values[i] ?? NaN;

// A block of a prime number of draws is repeated, so that large tensors are made fast and rows still differ.
const block = (() => {
  const draws = new Draws(1, 0, 0, 0);
  return Float32Array.from({ length: 65_521 }, () => 2 * draws.uniform() - 1);
})();

function random(device: Device, shape: Shape, offset: number): { t: Tensor; values: Float32Array } {
  const values = new Float32Array(sizeOf(shape));
  for (let i = 0; i < values.length; i++) values[i] = at(block, (i + 7919 * offset) % block.length);
  return { t: tensor(values, shape, { device }), values };
}
const output = (device: Device, shape: Shape, dtype: DType = 'float32') =>
  empty(shape, { device, dtype, label: 'bench' });

interface Convolution {
  batch: number;
  side: number;
  channels: number;
  out: number;
  kernel?: number;
  stride?: number;
  groups?: number;
}

type Direction = 'conv2d_forward' | 'conv2d_backward_data' | 'conv2d_backward_weight';

function convolution(direction: Direction, sizes: Convolution): Case {
  const { batch, side, channels, out, kernel = 3, stride = 1, groups = 1 } = sizes;
  const padding = kernel >> 1;
  const outSide = Math.floor((side + 2 * padding - kernel) / stride) + 1;
  const [inputs, outputs] = [channels / groups, out / groups];
  const shapes = {
    x: [batch, side, side, channels],
    weight: [out, kernel, kernel, inputs],
    y: [batch, outSide, outSide, out],
  };
  const kind = groups > 1 ? ' depthwise' : '';
  return {
    shape: `B=${batch} ${side}x${side} ${channels}->${out} ${kernel}x${kernel}/${stride}${kind}`,
    operations: 2 * sizeOf(shapes.y) * kernel * kernel * inputs,
    bytes: 4 * (sizeOf(shapes.x) + sizeOf(shapes.weight) + sizeOf(shapes.y)),
    prepare(device) {
      const [x, weight, y] = [
        random(device, shapes.x, 1),
        random(device, shapes.weight, 2),
        random(device, shapes.y, 3),
      ];
      const args = [batch, side, side, channels, out, kernel, kernel, stride, padding, groups] as const;
      const xAt = (b: number, h: number, w: number, c: number) =>
        h < 0 || w < 0 || h >= side || w >= side
          ? 0
          : at(x.values, ((b * side + h) * side + w) * channels + c);
      const weightAt = (o: number, r: number, s: number, c: number) =>
        at(weight.values, ((o * kernel + r) * kernel + s) * inputs + c);
      const yAt = (b: number, h: number, w: number, o: number) =>
        at(y.values, ((b * outSide + h) * outSide + w) * out + o);
      const split = (i: number, width: number, depth: number) => {
        const pixel = Math.floor(i / depth);
        return [
          Math.floor(pixel / (width * width)),
          Math.floor(pixel / width) % width,
          pixel % width,
          i % depth,
        ] as const;
      };
      if (direction === 'conv2d_forward') {
        const result = output(device, shapes.y);
        return {
          output: result,
          run: () => device.kernels.conv2d_forward(result, x.t, weight.t, ...args),
          expected(i) {
            const [b, h, w, o] = split(i, outSide, out);
            const first = Math.floor(o / outputs) * inputs;
            let total = 0;
            for (let r = 0; r < kernel; r++)
              for (let s = 0; s < kernel; s++)
                for (let c = 0; c < inputs; c++)
                  total +=
                    xAt(b, h * stride + r - padding, w * stride + s - padding, first + c) *
                    weightAt(o, r, s, c);
            return total;
          },
        };
      }
      if (direction === 'conv2d_backward_data') {
        const result = output(device, shapes.x);
        return {
          output: result,
          run: () => device.kernels.conv2d_backward_data(result, y.t, weight.t, ...args),
          expected(i) {
            const [b, h, w, c] = split(i, side, channels);
            const first = Math.floor(c / inputs) * outputs;
            let total = 0;
            for (let r = 0; r < kernel; r++)
              for (let s = 0; s < kernel; s++) {
                const [oh, ow] = [(h + padding - r) / stride, (w + padding - s) / stride];
                if (!Number.isInteger(oh) || !Number.isInteger(ow)) continue;
                if (oh < 0 || ow < 0 || oh >= outSide || ow >= outSide) continue;
                for (let o = first; o < first + outputs; o++)
                  total += yAt(b, oh, ow, o) * weightAt(o, r, s, c % inputs);
              }
            return total;
          },
        };
      }
      const result = output(device, shapes.weight);
      return {
        output: result,
        run: () => device.kernels.conv2d_backward_weight(result, y.t, x.t, ...args),
        expected(i) {
          const [o, r, s, c] = split(i, kernel, inputs);
          const channel = Math.floor(o / outputs) * inputs + c;
          let total = 0;
          for (let b = 0; b < batch; b++)
            for (let h = 0; h < outSide; h++)
              for (let w = 0; w < outSide; w++)
                total +=
                  yAt(b, h, w, o) * xAt(b, h * stride + r - padding, w * stride + s - padding, channel);
          return total;
        },
      };
    },
  };
}

/** y [m, n] = a [m, k] b [n, k]ᵀ, as the embedding layer has it. */
export function product(m: number, n: number, k: number): Case {
  return {
    shape: `${m}x${n}x${k}`,
    operations: 2 * m * n * k,
    bytes: 4 * (m * k + n * k + m * n),
    prepare(device) {
      const [a, b] = [random(device, [m, k], 1), random(device, [n, k], 2)];
      const y = output(device, [m, n]);
      return {
        output: y,
        run: () => device.kernels.matmul(y, a.t, b.t, 1, m, n, k, 0, 1),
        expected(i) {
          const [row, column] = [Math.floor(i / n), i % n];
          let total = 0;
          for (let j = 0; j < k; j++) total += at(a.values, row * k + j) * at(b.values, column * k + j);
          return total;
        },
      };
    },
  };
}

/** y = x: the device's copy bandwidth. */
export function copy(elements: number): Case {
  return {
    shape: `${elements}`,
    operations: 0,
    bytes: 8 * elements,
    prepare(device) {
      const x = random(device, [elements], 1);
      const y = output(device, [elements]);
      return { output: y, run: () => device.kernels.copy(y, x.t), expected: (i) => at(x.values, i) };
    },
  };
}

function prelu(rows: number, channels: number): Case {
  return {
    shape: `${rows} x ${channels}`,
    operations: 0,
    bytes: 8 * rows * channels,
    prepare(device) {
      const [x, slope] = [random(device, [rows, channels], 1), random(device, [channels], 2)];
      const y = output(device, [rows, channels]);
      return {
        output: y,
        run: () => device.kernels.prelu_forward(y, x.t, slope.t, rows, channels),
        expected: (i) => at(x.values, i) * (at(x.values, i) > 0 ? 1 : at(slope.values, i % channels)),
      };
    },
  };
}

/** Scale and shift by given statistics, with PReLU: y = prelu((x - mean) inverse gamma + beta). */
function batchNorm(rows: number, channels: number): Case {
  return {
    shape: `${rows} x ${channels} with PReLU`,
    operations: 0,
    bytes: 8 * rows * channels,
    prepare(device) {
      const x = random(device, [rows, channels], 1);
      const vector = (offset: number) => random(device, [channels], offset);
      const moments = random(device, [2, channels], 2);
      const [gamma, beta, slope] = [vector(4), vector(5), vector(6)];
      const y = output(device, [rows, channels]);
      const vectors = [moments.t, gamma.t, beta.t, slope.t] as const;
      return {
        output: y,
        run: () => device.kernels.batch_norm_forward(y, x.t, ...vectors, undefined, rows, channels),
        expected(i) {
          const c = i % channels;
          const [mean, inverse] = [at(moments.values, c), at(moments.values, channels + c)];
          const value = (at(x.values, i) - mean) * inverse * at(gamma.values, c) + at(beta.values, c);
          return value > 0 ? value : value * at(slope.values, c);
        },
      };
    },
  };
}

/** SGD with momentum, in place: v = 0.9 v0 + g + 0.0005 p0, p = p0 - 0.1 v. */
function sgd(parameters: number): Case {
  return {
    shape: `${parameters} parameters`,
    operations: 0,
    bytes: 20 * parameters,
    prepare(device) {
      const [p0, v0] = [random(device, [parameters], 1), random(device, [parameters], 2)];
      const g = random(device, [parameters], 3);
      const scale = tensor(Float32Array.of(1), [1], { device });
      return {
        output: p0.t,
        run: () => device.kernels.sgd_step([p0.t], [v0.t], [p0.t], [v0.t], [g.t], scale, 0.1, 0.9, 5e-4),
        expected: (i) =>
          at(p0.values, i) - 0.1 * (0.9 * at(v0.values, i) + at(g.values, i) + 5e-4 * at(p0.values, i)),
      };
    },
  };
}
/** The loss of Eq. 8 for each sample; see src/autograd/ops/margin-softmax.ts. */
function marginSoftmax(batch: number, classes: number, size: number, groups: number): Case {
  const margin = 30;
  return {
    shape: `B=${batch} N=${classes} D=${size} K=${groups}`,
    operations: 2 * batch * classes * size,
    bytes: 4 * (classes * size + batch * size),
    prepare(device) {
      const [g, w] = [random(device, [batch, size], 1), random(device, [classes, size], 2)];
      const labels = Int32Array.from({ length: batch }, (_, i) => (7919 * i) % classes);
      const label = tensor(labels, [batch], { device, dtype: 'int32' });
      const perSample = () => output(device, [batch]);
      const [loss, logsumexp, hit] = [perSample(), perSample(), perSample()];
      const sizes = [batch, classes, size, groups, margin, 1e-12] as const;
      const logit = (i: number, j: number) => {
        const each = size / groups;
        let total = 0;
        for (let begin = 0; begin < size; begin += each) {
          let [dot, square] = [0, 0];
          for (let d = begin; d < begin + each; d++) {
            dot += at(g.values, i * size + d) * at(w.values, j * size + d);
            square += at(w.values, j * size + d) ** 2;
          }
          total += dot / Math.sqrt(square);
        }
        return j === labels[i] ? total - margin : total;
      };
      return {
        output: loss,
        run: () => device.kernels.margin_softmax_forward(loss, logsumexp, hit, g.t, w.t, label, ...sizes),
        expected(i) {
          let [largest, sum] = [-Infinity, 0];
          for (let j = 0; j < classes; j++) {
            const a = logit(i, j);
            sum = a > largest ? sum * Math.exp(largest - a) + 1 : sum + Math.exp(a - largest);
            largest = Math.max(largest, a);
          }
          return largest + Math.log(sum) - logit(i, at(labels, i));
        },
      };
    },
  };
}

const layers: readonly (Convolution & { slow?: true })[] = [
  // IResNet-100, and the first of MobileFaceNet's depthwise and pointwise layers.
  { batch: 16, side: 112, channels: 3, out: 64 },
  { batch: 16, side: 56, channels: 64, out: 64, slow: true },
  { batch: 16, side: 28, channels: 128, out: 128, slow: true },
  { batch: 16, side: 14, channels: 256, out: 256 },
  { batch: 16, side: 14, channels: 256, out: 512, stride: 2, slow: true },
  { batch: 16, side: 7, channels: 512, out: 512, slow: true },
  { batch: 16, side: 56, channels: 64, out: 128, kernel: 1, slow: true },
  { batch: 16, side: 28, channels: 128, out: 128, groups: 128 },
];
const directions = ['conv2d_forward', 'conv2d_backward_data', 'conv2d_backward_weight'] as const;

/** All cases, in the order in which they run. */
export const cases: readonly KernelCase[] = [
  { kernel: 'copy', ...copy(1 << 24) },
  { kernel: 'prelu_forward', ...prelu(16 * 56 * 56, 64) },
  { kernel: 'batch_norm_forward', ...batchNorm(16 * 56 * 56, 64) },
  { kernel: 'sgd_step', ...sgd(1 << 23) },
  { kernel: 'matmul', ...product(64, 512, 25_088) },
  ...layers.flatMap(({ slow, ...layer }) =>
    directions.map((kernel) => ({ kernel, ...convolution(kernel, layer), ...(slow ? { slow } : {}) })),
  ),
  { kernel: 'margin_softmax_forward', ...marginSoftmax(64, 10_000, 512, 16) },
  { kernel: 'margin_softmax_forward', ...marginSoftmax(64, 85_000, 512, 16), slow: true },
  { kernel: 'margin_softmax_forward', ...marginSoftmax(64, 1_000_000, 512, 16), slow: true },
];
