// Convolutions of real layers, all three directions. Images are [B, side, side, channels], weights [out, kernel, kernel, inputs].
import type { FloatType } from '../../tensor/dtype.js';
import { at, bytesFor, output, random, suffix, some, type KernelCase, type Sizes } from '../case.js';
import { sizeOf } from '../../tensor/shape.js';

interface Layer {
  side: number;
  channels: number;
  out: number;
  kernel?: number;
  stride?: number;
  groups?: number;
}

/** First a plain, a strided and a depthwise one. */
const layers: readonly Layer[] = [
  { side: 14, channels: 256, out: 256 },
  { side: 14, channels: 256, out: 512, stride: 2 },
  { side: 28, channels: 128, out: 128, groups: 128 },
  { side: 56, channels: 64, out: 128, kernel: 1 },
  // The rest of IResNet-100.
  { side: 112, channels: 3, out: 64 },
  { side: 112, channels: 64, out: 64 },
  { side: 112, channels: 64, out: 64, stride: 2 },
  { side: 56, channels: 64, out: 64 },
  { side: 56, channels: 128, out: 128, stride: 2 },
  { side: 56, channels: 64, out: 128, kernel: 1, stride: 2 },
  { side: 28, channels: 128, out: 128 },
  { side: 28, channels: 256, out: 256, stride: 2 },
  { side: 14, channels: 512, out: 512, stride: 2 },
  { side: 7, channels: 512, out: 512 },
  // The rest of MobileFaceNet: depthwise, then between few and many channels.
  { side: 56, channels: 64, out: 64, groups: 64 },
  { side: 56, channels: 128, out: 128, stride: 2, groups: 128 },
  { side: 14, channels: 256, out: 256, groups: 256 },
  { side: 28, channels: 64, out: 128, kernel: 1 },
  { side: 28, channels: 128, out: 64, kernel: 1 },
  { side: 14, channels: 128, out: 256, kernel: 1 },
];

type Direction = 'conv2d_forward' | 'conv2d_backward_data' | 'conv2d_backward_weight';
const directions: readonly Direction[] = ['conv2d_forward', 'conv2d_backward_data', 'conv2d_backward_weight'];

function geometry(batch: number, { side, channels, out, kernel = 3, stride = 1, groups = 1 }: Layer) {
  const padding = kernel >> 1;
  const outSide = Math.floor((side + 2 * padding - kernel) / stride) + 1;
  const [inputs, outputs] = [channels / groups, out / groups];
  const shapes = {
    x: [batch, side, side, channels],
    weight: [out, kernel, kernel, inputs],
    y: [batch, outSide, outSide, out],
  };
  const args = [batch, side, side, channels, out, kernel, kernel, stride, padding, groups] as const;
  return { batch, side, channels, out, kernel, stride, padding, outSide, inputs, outputs, shapes, args };
}
type Geometry = ReturnType<typeof geometry>;

/** Image, row, column and channel of element i of [., width, width, depth]. */
function split(i: number, width: number, depth: number): readonly [number, number, number, number] {
  const pixel = Math.floor(i / depth);
  return [Math.floor(pixel / (width * width)), Math.floor(pixel / width) % width, pixel % width, i % depth];
}

/** An image's element, 0 outside. */
const reader =
  (values: ArrayLike<number>, width: number, depth: number) =>
  (b: number, h: number, w: number, c: number) =>
    h < 0 || w < 0 || h >= width || w >= width ? 0 : at(values, ((b * width + h) * width + w) * depth + c);

type Values = Readonly<Record<'x' | 'weight' | 'y', ArrayLike<number>>>;

/** Element i of each direction's result. */
const formulas: Readonly<Record<Direction, (g: Geometry, values: Values) => (i: number) => number>> = {
  conv2d_forward: ({ side, channels, out, kernel, stride, padding, outSide, inputs, outputs }, values) => {
    const x = reader(values.x, side, channels);
    return (i) => {
      const [b, h, w, o] = split(i, outSide, out);
      const first = Math.floor(o / outputs) * inputs;
      let total = 0;
      for (let r = 0; r < kernel; r++)
        for (let s = 0; s < kernel; s++)
          for (let c = 0; c < inputs; c++)
            total +=
              x(b, h * stride + r - padding, w * stride + s - padding, first + c) *
              at(values.weight, ((o * kernel + r) * kernel + s) * inputs + c);
      return total;
    };
  },
  conv2d_backward_data: (
    { side, channels, out, kernel, stride, padding, outSide, inputs, outputs },
    values,
  ) => {
    const y = reader(values.y, outSide, out);
    return (i) => {
      const [b, h, w, c] = split(i, side, channels);
      const first = Math.floor(c / inputs) * outputs;
      let total = 0;
      for (let r = 0; r < kernel; r++)
        for (let s = 0; s < kernel; s++) {
          const [oh, ow] = [(h + padding - r) / stride, (w + padding - s) / stride];
          if (!Number.isInteger(oh) || !Number.isInteger(ow)) continue;
          for (let o = first; o < first + outputs; o++)
            total +=
              y(b, oh, ow, o) * at(values.weight, ((o * kernel + r) * kernel + s) * inputs + (c % inputs));
        }
      return total;
    };
  },
  conv2d_backward_weight: (g, values) => {
    const { batch, side, channels, out, kernel, stride, padding, outSide, inputs, outputs } = g;
    const [x, y] = [reader(values.x, side, channels), reader(values.y, outSide, out)];
    return (i) => {
      const [o, r, s, c] = split(i, kernel, inputs);
      const channel = Math.floor(o / outputs) * inputs + c;
      let total = 0;
      for (let b = 0; b < batch; b++)
        for (let h = 0; h < outSide; h++)
          for (let w = 0; w < outSide; w++)
            total += y(b, h, w, o) * x(b, h * stride + r - padding, w * stride + s - padding, channel);
      return total;
    };
  },
};

/** The weight's gradient stays float32 in bfloat16, as training has it. */
function convolution(direction: Direction, batch: number, layer: Layer, dtype: FloatType): KernelCase {
  const g = geometry(batch, layer);
  const { side, channels, out, kernel, stride, inputs, shapes, args } = g;
  const kind = layer.groups ? ' depthwise' : '';
  const toWeight = direction === 'conv2d_backward_weight';
  const images = sizeOf(shapes.x) + sizeOf(shapes.y);
  return {
    kernel: direction,
    shape: `B=${batch} ${side}x${side} ${channels}->${out} ${kernel}x${kernel}/${stride}${kind}${suffix(dtype)}`,
    operations: 2 * sizeOf(shapes.y) * kernel * kernel * inputs,
    bytes: bytesFor(dtype, images) + bytesFor(toWeight ? 'float32' : dtype, sizeOf(shapes.weight)),
    matrix: dtype === 'bfloat16' && !layer.groups,
    prepare(device) {
      const operand = (name: 'x' | 'weight' | 'y', n: number) => random(device, shapes[name], n, { dtype });
      const [x, weight, y] = [operand('x', 1), operand('weight', 2), operand('y', 3)];
      const values = { x: x.values, weight: weight.values, y: y.values };
      const expected = formulas[direction](g, values);
      const run = {
        conv2d_forward: [shapes.y, x, weight],
        conv2d_backward_data: [shapes.x, y, weight],
        conv2d_backward_weight: [shapes.weight, y, x],
      } as const;
      const [shape, first, second] = run[direction];
      const result = output(device, shape, toWeight ? 'float32' : dtype);
      const { kernels } = device;
      return {
        run: () =>
          direction === 'conv2d_forward'
            ? kernels.conv2d_forward(result, undefined, first.t, second.t, ...args)
            : kernels[direction](result, first.t, second.t, ...args),
        results: [{ output: result, expected }],
      };
    },
  };
}

const narrowed = ({ channels, out, groups, ...rest }: Layer, by: number): Layer => ({
  ...{ ...rest, channels: channels / by, out: out / by },
  ...(groups === undefined ? {} : { groups: groups / by }),
});

export const convolutionCases = (sizes: Sizes): KernelCase[] =>
  some(sizes, layers, 3).flatMap((layer) =>
    directions.flatMap((direction) =>
      (['float32', 'bfloat16'] as const).map((dtype) =>
        convolution(direction, sizes.batch, narrowed(layer, sizes.narrow), dtype),
      ),
    ),
  );
