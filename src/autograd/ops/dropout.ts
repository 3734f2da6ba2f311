import { isFloat } from '../../tensor/dtype.js';
import { check } from '../../tensor/errors.js';
import type { HostNumber } from '../../tensor/recording.js';
import type { Tensor } from '../../tensor/tensor.js';
import { record } from '../tape.js';

/** What a mask is drawn from. */
export interface DropoutOptions {
  /** An integer below 2^53, that of the run. */
  seed: number;
  /** The training step, as it is in the forward pass: each step draws another mask. */
  step: number | HostNumber;
  /** Which dropout of the network it is; 0 when left out. */
  layer?: number;
}

/**
 * Dropout (Srivastava et al. 2014): keeps each element of x, of any floating type and shape, with probability 1 - p and divides it by
 * that. The mask depends on seed, step and layer only and is drawn again for the gradient, so nothing is stored.
 * @throws ShapeError for integers, and for a probability outside of [0, 1)
 */
export function dropout(x: Tensor, probability: number, options: DropoutOptions): Tensor {
  const { seed, step, layer = 0 } = options;
  check(isFloat(x.dtype), 'dropout', 'a floating type', () => x.toString());
  check(probability >= 0 && probability < 1, 'dropout', 'a probability in [0, 1)', () => String(probability));
  // Only a replay reads it anew: the gradient is that of the mask drawn here.
  const drawn = typeof step === 'number' || x.device.recording ? step : step.value;
  const apply = (t: Tensor) => {
    const y = t.like('dropout');
    t.device.kernels.dropout(y, t, probability, seed, drawn, layer);
    return y;
  };
  return record('dropout', apply(x), [x], [], (dy) => [apply(dy)]);
}
