import { isFloat, type FloatType } from '../../tensor/dtype.js';
import { check } from '../../tensor/errors.js';
import type { Tensor } from '../../tensor/tensor.js';
import { record } from '../tape.js';

/**
 * The same values in another floating type; the gradient is cast back. The tensor itself when it has that type already.
 * @throws ShapeError for an x of integers
 */
export function cast(x: Tensor, dtype: FloatType): Tensor {
  check(isFloat(x.dtype), 'cast', 'a floating type', () => x.toString());
  if (x.dtype === dtype) return x;
  return record('cast', x.to(dtype), [x], [], (dy) => [dy.to(x.dtype)]);
}
