/**
 * Batch normalisation (Ioffe & Szegedy 2015) over all axes but the last, alone or with what follows it in one pass:
 *   h = (x - mean) / sqrt(variance + epsilon),  z = gamma h + beta,  y = z | prelu(z) | z + residual
 * x, y, residual [..., C]; gamma, beta, slope and the statistics [C] in float32 (float64 for float64). In training the statistics
 * are those of the batch, and the running ones are updated in place, the variance by its unbiased estimate. The batch's come with x
 * (`Tensor.statistics`) where the op that made it left them; else x is read once more.
 */
import { accumulator, isFloat } from '../../tensor/dtype.js';
import { check } from '../../tensor/errors.js';
import { scope } from '../../tensor/scope.js';
import { sameShape } from '../../tensor/shape.js';
import { empty, type Tensor } from '../../tensor/tensor.js';
import { record, takeGradient } from '../tape.js';
import { roomForStatistics } from './channel-statistics.js';

/** Running averages of what the batches had, [C] each: outside of training x is normalised by them. */
export interface RunningStatistics {
  /** 0 at first. */
  mean: Tensor;
  /** 1 at first. */
  variance: Tensor;
}
/** How a batch is normalised. */
export interface BatchNormOptions {
  /** Whether to use the batch's statistics and update the running ones. */
  training: boolean;
  /** The share of the new batch in the running statistics; 0.1 when left out. */
  momentum?: number;
  /** Added to the variance. */
  epsilon?: number;
  /** Whether to leave the mean and variance of y's channels with it in training, for the batch normalisation that reads it. */
  statistics?: boolean;
}

/** `BatchNormOptions.epsilon` when left out. */
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
  operands: Operands,
  running: RunningStatistics,
  { training, momentum = 0.1, epsilon = defaultBatchNormEpsilon, statistics = false }: BatchNormOptions,
): Tensor {
  const { gamma, beta, slope, residual } = operands;
  checkOperands(op, x, operands, running);
  const channels = x.dim(-1);
  const rows = channels === 0 ? 0 : x.size / channels;
  check(!training || rows > 1, op, 'two or more values of each channel in training', () => x.toString());
  const { device } = x;
  const own = (shape: number[]) =>
    empty(shape, { dtype: accumulator(x.dtype), device, label: `${op} statistics` });
  return scope(() => {
    const { kernels } = device;
    const { mean, variance } = running;
    const moments = own([2, channels]);
    const y = x.like(op);
    const rest = [gamma, beta, slope, residual, rows, channels] as const;
    if (training) {
      const left = statistics ? roomForStatistics(y) : undefined;
      // prettier-ignore
      kernels.batch_norm_training(
        y, left, moments, mean, variance, x, x.statistics, mean, variance, ...rest, momentum, epsilon,
      );
    } else {
      kernels.batch_norm_moments(moments, mean, variance, epsilon);
      kernels.batch_norm_forward(y, x, moments, ...rest);
    }
    const isPresent = (t: Tensor | undefined) => t !== undefined;
    const affine = [gamma, beta, slope].filter(isPresent);
    const inputs = [x, ...affine, residual].filter(isPresent);
    return record(op, y, inputs, [x, moments, ...affine], (dy, needs) => {
      const dx = needs[0] ? x.like(`${op} dx`) : undefined;
      const [dgamma, dbeta] = [own([channels]), own([channels])];
      const dslope = slope && own([channels]);
      // What other ops have sent to x already is added on the way: memory is passed once less.
      const more = dx && takeGradient(x);
      // prettier-ignore
      kernels.batch_norm_backward(
        dx, dgamma, dbeta, dslope, dy, x, moments, gamma, beta, slope, more, rows, channels, training ? 1 : 0,
      );
      return [dx, ...(gamma ? [dgamma] : []), ...(beta ? [dbeta] : []), ...(slope ? [dslope] : []), dy];
    });
  });
}

const perChannel = ['gamma', 'beta', 'slope', 'mean', 'variance'];

function checkOperands(
  op: string,
  x: Tensor,
  { gamma, beta, slope, residual }: Operands,
  { mean, variance }: RunningStatistics,
) {
  check(isFloat(x.dtype) && x.rank >= 2, op, 'x as floating [..., channels]', () => x.toString());
  const channels = x.dim(-1);
  const dtype = accumulator(x.dtype);
  [gamma, beta, slope, mean, variance].forEach((t, i) =>
    check(
      t === undefined || (t.rank === 1 && t.size === channels && t.dtype === dtype),
      op,
      () => `${perChannel[i] ?? ''} as ${dtype} [${channels}]`,
      () => String(t),
    ),
  );
  check(
    !residual || (sameShape(residual.shape, x.shape) && residual.dtype === x.dtype),
    op,
    () => `a residual like ${x.toString()}`,
    () => String(residual),
  );
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
