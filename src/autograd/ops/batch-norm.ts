/**
 * Batch normalisation (Ioffe & Szegedy 2015) over all axes but the last, alone or with what follows it in one pass:
 *   h = (x - mean) / sqrt(variance + epsilon),  z = gamma h + beta,  y = z | prelu(z) | z + residual
 * x, y, residual [..., C]; gamma, beta, slope and the statistics [C] in float32 (float64 for float64). In training the statistics
 * are those of the batch, and the running ones are updated in place, the variance by its unbiased estimate.
 */
import { accumulator, isFloat } from '../../tensor/dtype.js';
import { check } from '../../tensor/errors.js';
import { scope } from '../../tensor/scope.js';
import { sameShape } from '../../tensor/shape.js';
import { empty, type Tensor } from '../../tensor/tensor.js';
import { record } from '../tape.js';

export interface RunningStatistics {
  mean: Tensor;
  variance: Tensor;
}
export interface BatchNormOptions {
  /** Whether to use the batch's statistics and update the running ones. */
  training: boolean;
  /** The share of the new batch in the running statistics. */
  momentum?: number;
  epsilon?: number;
}

export const defaultBatchNormEpsilon = 1e-5;

interface Operands {
  gamma: Tensor | undefined;
  beta: Tensor | undefined;
  slope?: Tensor;
  residual?: Tensor;
}

function normalise(
  op: string,
  x: Tensor,
  { gamma, beta, slope, residual }: Operands,
  running: RunningStatistics,
  { training, momentum = 0.1, epsilon = defaultBatchNormEpsilon }: BatchNormOptions,
): Tensor {
  check(isFloat(x.dtype) && x.rank >= 2, op, 'x as floating [..., channels]', () => x.toString());
  const channels = x.dim(-1);
  const dtype = accumulator(x.dtype);
  for (const [name, t] of Object.entries({ gamma, beta, slope, ...running }))
    check(
      t === undefined || (sameShape(t.shape, [channels]) && t.dtype === dtype),
      op,
      `${name} as ${dtype} [${channels}]`,
      () => String(t),
    );
  check(
    !residual || (sameShape(residual.shape, x.shape) && residual.dtype === x.dtype),
    op,
    `a residual like ${x.toString()}`,
    () => String(residual),
  );
  const rows = channels === 0 ? 0 : x.size / channels;
  check(!training || rows > 1, op, 'two or more values of each channel in training', () => x.toString());
  const { device } = x;
  return scope(() => {
    const own = (size: number) => empty([size], { dtype, device, label: `${op} statistics` });
    const none = own(0);
    const inverse = own(channels);
    const mean = training ? own(channels) : running.mean;
    if (training)
      device.kernels.batch_norm_statistics(
        ...([mean, inverse, running.mean, running.variance, x, running.mean, running.variance] as const),
        ...([rows, channels, momentum, epsilon] as const),
      );
    else device.kernels.batch_norm_inverse(inverse, running.variance, epsilon);
    const y = x.like(op);
    const noRest = empty([0], { dtype: x.dtype, device });
    const affine = [gamma ?? none, beta ?? none, slope ?? none] as const;
    device.kernels.batch_norm_forward(y, x, mean, inverse, ...affine, residual ?? noRest, rows, channels);
    const optional = { gamma, beta, slope, residual };
    const inputs = [x, ...Object.values(optional).filter((t) => t !== undefined)];
    return record(op, y, inputs, [x, mean, inverse, ...affine], (dy, needs) => {
      const dx = needs[0] ? x.like(`${op} dx`) : noGradient(x);
      const gradients = {
        gamma: own(channels),
        beta: own(channels),
        slope: own(slope ? channels : 0),
        residual: dy,
      };
      device.kernels.batch_norm_backward(
        ...([dx, gradients.gamma, gradients.beta, gradients.slope, dy, x, mean, inverse] as const),
        ...affine,
        ...([rows, channels, training ? 1 : 0] as const),
      );
      const found = (['gamma', 'beta', 'slope', 'residual'] as const).filter(
        (name) => optional[name] !== undefined,
      );
      return [dx, ...found.map((name) => gradients[name])];
    });
  });
}

/** An empty tensor in place of a gradient that nobody wants: the kernel leaves it out. */
function noGradient(x: Tensor): Tensor {
  return empty([0], { dtype: x.dtype, device: x.device, label: 'no gradient' });
}

/** Normalises x; a missing gamma is 1, a missing beta is 0. */
export function batchNorm(
  x: Tensor,
  gamma: Tensor | undefined,
  beta: Tensor | undefined,
  running: RunningStatistics,
  options: BatchNormOptions,
): Tensor {
  return normalise('batchNorm', x, { gamma, beta }, running, options);
}

/** Batch normalisation and PReLU with `slope` [C] in one pass; the normalised value is never stored. */
export function batchNormPrelu(
  x: Tensor,
  gamma: Tensor | undefined,
  beta: Tensor | undefined,
  slope: Tensor,
  running: RunningStatistics,
  options: BatchNormOptions,
): Tensor {
  return normalise('batchNormPrelu', x, { gamma, beta, slope }, running, options);
}

/** Batch normalisation of x plus `residual`, in one pass. */
export function batchNormAdd(
  x: Tensor,
  gamma: Tensor | undefined,
  beta: Tensor | undefined,
  residual: Tensor,
  running: RunningStatistics,
  options: BatchNormOptions,
): Tensor {
  return normalise('batchNormAdd', x, { gamma, beta, residual }, running, options);
}
