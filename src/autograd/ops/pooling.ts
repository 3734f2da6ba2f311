/**
 * Pooling over windows of x [B, H, W, C]: y [B, Ho, Wo, C] with Ho = floor((H + 2 padding - kernel) / stride) + 1. Padding is
 * never the maximum, and averages divide by the pixels inside the image.
 */
import { isFloat } from '../../tensor/dtype.js';
import { check } from '../../tensor/errors.js';
import { empty, type Tensor } from '../../tensor/tensor.js';
import { record } from '../tape.js';
import { mean } from './reduce.js';

/** Where the windows are. */
export interface PoolingOptions {
  /** Side of the window in pixels. */
  kernel: number;
  /** Pixels between windows; the kernel's size when left out. */
  stride?: number;
  /** Pixels around the image, at most half the kernel; 0 when left out. */
  padding?: number;
}

type Sizes = [number, number, number, number, number, number, number, number, number];

function sizesOf(op: string, x: Tensor, { kernel, stride = kernel, padding = 0 }: PoolingOptions): Sizes {
  check(isFloat(x.dtype) && x.rank === 4, op, 'x as floating [B, H, W, C]', () => x.toString());
  const [batch, height, width, channels] = x.shape as [number, number, number, number];
  check(
    [kernel, stride, padding].every(Number.isInteger) &&
      kernel > 0 &&
      stride > 0 &&
      padding >= 0 &&
      2 * padding <= kernel,
    op,
    'a kernel and a stride of 1 or more and a padding of at most half the kernel',
    () => `kernel ${kernel}, stride ${stride}, padding ${padding}`,
  );
  const windows = (n: number) => Math.floor((n + 2 * padding - kernel) / stride) + 1;
  check(
    height > 0 && width > 0 && windows(height) > 0 && windows(width) > 0,
    op,
    `an image no smaller than the window of ${kernel} pixels`,
    () => x.toString(),
  );
  return [batch, height, width, channels, windows(height), windows(width), kernel, stride, padding];
}

/** The largest value of each window; the gradient goes to the first of equal ones. A NaN wins. */
export function maxPool2d(x: Tensor, options: PoolingOptions): Tensor {
  const sizes = sizesOf('maxPool2d', x, options);
  const [batch, , , channels, outHeight, outWidth] = sizes;
  const { device, dtype } = x;
  const shape = [batch, outHeight, outWidth, channels];
  const y = empty(shape, { dtype, device, label: 'maxPool2d' });
  const index = empty(shape, { dtype: 'int32', device, label: 'maxPool2d index' });
  device.kernels.max_pool_forward(y, index, x, ...sizes);
  const result = record('maxPool2d', y, [x], [index], (dy) => {
    const dx = x.like('maxPool2d dx');
    device.kernels.max_pool_backward(dx, dy, index, ...sizes);
    return [dx];
  });
  index.dispose();
  return result;
}

/** The mean of each window. */
export function averagePool2d(x: Tensor, options: PoolingOptions): Tensor {
  const sizes = sizesOf('averagePool2d', x, options);
  const [batch, , , channels, outHeight, outWidth] = sizes;
  const { device, dtype } = x;
  const y = empty([batch, outHeight, outWidth, channels], { dtype, device, label: 'averagePool2d' });
  device.kernels.average_pool_forward(y, x, ...sizes);
  return record('averagePool2d', y, [x], [], (dy) => {
    const dx = x.like('averagePool2d dx');
    device.kernels.average_pool_backward(dx, dy, ...sizes);
    return [dx];
  });
}

/** The mean over all pixels: [B, H, W, C] to [B, C]. */
export function globalAveragePool(x: Tensor): Tensor {
  check(x.rank === 4, 'globalAveragePool', 'x as [B, H, W, C]', () => x.toString());
  return mean(x, [1, 2]);
}
