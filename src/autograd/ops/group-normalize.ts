import { isFloat } from '../../tensor/dtype.js';
import { check } from '../../tensor/errors.js';
import type { Tensor } from '../../tensor/tensor.js';
import { record } from '../tape.js';

/** The least norm that is divided by: a group of zeros stays zero. */
export const defaultEpsilon = 1e-12;

/**
 * Group-wise l2 normalisation (§3.2): each of the K runs of D / K elements is divided by its own norm, y = x / max(|x|, epsilon).
 * @param x floating [..., D]
 * @param groups K, a divisor of D; 1 normalises the whole embedding
 * @returns y, of x's shape and type
 * @throws ShapeError when D does not fall into K equal groups, and for integers
 */
export function groupNormalize(x: Tensor, groups: number, epsilon = defaultEpsilon): Tensor {
  check(isFloat(x.dtype) && x.rank >= 1, 'groupNormalize', 'x as floating [..., D]', () => x.toString());
  const size = x.dim(-1);
  check(
    Number.isInteger(groups) && groups >= 1 && size % groups === 0 && size > 0,
    'groupNormalize',
    `a last dimension in ${groups} equal groups`,
    () => x.toString(),
  );
  const sizes = [x.size / size, groups, size / groups, epsilon] as const;
  const y = x.like('group normalise');
  x.device.kernels.group_normalize_forward(y, x, ...sizes);
  return record('groupNormalize', y, [x], [x], (dy) => {
    const dx = x.like('group normalise dx');
    x.device.kernels.group_normalize_backward(dx, dy, x, ...sizes);
    return [dx];
  });
}
