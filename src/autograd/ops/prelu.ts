import { check } from '../../tensor/errors.js';
import { accumulator, isFloat } from '../../tensor/dtype.js';
import { empty, type Tensor } from '../../tensor/tensor.js';
import { record } from '../tape.js';

/**
 * PReLU (He et al. 2015): y = x where x > 0, slope[c] x elsewhere.
 * @param x floating [..., C]
 * @param slope [C] in float32 (float64 for float64)
 * @throws ShapeError for other shapes and types
 */
export function prelu(x: Tensor, slope: Tensor): Tensor {
  check(isFloat(x.dtype) && x.rank >= 1, 'prelu', 'x as floating [..., C]', () => x.toString());
  const channels = x.dim(-1);
  check(
    slope.rank === 1 && slope.dim(0) === channels && slope.dtype === accumulator(x.dtype),
    'prelu',
    `a slope of ${accumulator(x.dtype)} [${channels}]`,
    () => slope.toString(),
  );
  const rows = channels === 0 ? 0 : x.size / channels;
  const { device } = x;
  const y = x.like('prelu');
  device.kernels.prelu_forward(y, x, slope, rows, channels);
  return record('prelu', y, [x, slope], [x, slope], (dy) => {
    const dx = x.like('prelu dx');
    const dslope = empty(slope.shape, { dtype: slope.dtype, device, label: 'prelu dslope' });
    device.kernels.prelu_backward(dx, dslope, dy, x, slope, rows, channels);
    return [dx, dslope];
  });
}
