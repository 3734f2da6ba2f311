import { check } from '../../tensor/errors.js';
import { accumulator, isFloat } from '../../tensor/dtype.js';
import { formatShape } from '../../tensor/shape.js';
import { empty, type Tensor } from '../../tensor/tensor.js';
import { record } from '../tape.js';
import { roomForStatistics } from './channel-statistics.js';

/** How `conv2d` goes over the image. */
export interface ConvolutionOptions {
  /** Pixels between neighbouring windows; 1 when left out. */
  stride?: number;
  /** Pixels of zeros on every side; 0 when left out. */
  padding?: number;
  /** Channels in and out fall into this many parts that do not mix; as many as channels is a depthwise convolution. 1 when left out. */
  groups?: number;
  /** Whether to leave the mean and variance of y's channels with it, for the batch normalisation that reads it. */
  statistics?: boolean;
}

/**
 * 2-d convolution: y[b, i, j, o] = sum over u, v, c of x[b, i stride + u - padding, j stride + v - padding, c] weight[o, u, v, c],
 * c running over the channels of o's group.
 * @param x floating [B, H, W, C]
 * @param weight [O, kh, kw, C / groups], float32 for bfloat16 x: it is rounded once per call, and its gradient is a float32 sum
 * @returns y [B, Ho, Wo, O] with Ho = floor((H + 2 padding - kh) / stride) + 1, of x's type
 * @throws ShapeError for other shapes, types, strides and paddings, and for a window larger than the padded image
 */
export function conv2d(x: Tensor, weight: Tensor, options: ConvolutionOptions = {}): Tensor {
  const { stride = 1, padding = 0, groups = 1, statistics = false } = options;
  check(x.rank === 4 && isFloat(x.dtype), 'conv2d', 'x as floating [B, H, W, C]', () => x.toString());
  const [batch, height, width, channels] = x.shape as [number, number, number, number];
  check(
    Number.isInteger(stride) && stride >= 1 && Number.isInteger(padding) && padding >= 0,
    'conv2d',
    'a stride of 1 or more and a padding of 0 or more pixels',
    () => `stride ${stride}, padding ${padding}`,
  );
  const dtype = accumulator(x.dtype);
  check(
    weight.rank === 4 &&
      weight.dtype === dtype &&
      Number.isInteger(groups) &&
      weight.dim(3) * groups === channels &&
      weight.dim(0) % groups === 0,
    'conv2d',
    () => `a weight of ${dtype} [out, kh, kw, ${channels / groups}] with out a multiple of ${groups} groups`,
    () => weight.toString(),
  );
  const [outChannels, kernelHeight, kernelWidth] = weight.shape as [number, number, number, number];
  const outHeight = Math.floor((height + 2 * padding - kernelHeight) / stride) + 1;
  const outWidth = Math.floor((width + 2 * padding - kernelWidth) / stride) + 1;
  check(
    weight.size > 0 && outHeight > 0 && outWidth > 0,
    'conv2d',
    () => `an image no smaller than the window of ${kernelHeight} x ${kernelWidth} after padding ${padding}`,
    () => formatShape(x.shape),
  );
  const { device } = x;
  const rounded = weight.dtype === x.dtype ? weight : weight.to(x.dtype);
  const y = empty([batch, outHeight, outWidth, outChannels], { dtype: x.dtype, device, label: 'conv2d' });
  const sizes = [
    batch,
    height,
    width,
    channels,
    outChannels,
    kernelHeight,
    kernelWidth,
    stride,
    padding,
    groups,
  ] as const;
  device.kernels.conv2d_forward(y, statistics ? roomForStatistics(y) : undefined, x, rounded, ...sizes);
  const result = record('conv2d', y, [x, weight], [x, rounded], (dy, needs) => {
    const dx = needs[0] ? x.like('conv2d dx') : undefined;
    if (dx) device.kernels.conv2d_backward_data(dx, dy, rounded, ...sizes);
    const dweight = needs[1] ? weight.like('conv2d dweight') : undefined;
    if (dweight) device.kernels.conv2d_backward_weight(dweight, dy, x, ...sizes);
    return [dx, dweight];
  });
  if (rounded !== weight) rounded.dispose();
  return result;
}
