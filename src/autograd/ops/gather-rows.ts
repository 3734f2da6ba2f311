import { accumulator, isFloat } from '../../tensor/dtype.js';
import { check } from '../../tensor/errors.js';
import { empty, type Tensor } from '../../tensor/tensor.js';
import { record } from '../tape.js';

/**
 * Rows by their numbers: y[i] = x[index[i]]. The gradients of a row that was taken several times are added, in float32 for bfloat16.
 * @param x floating [N, D]
 * @param index int32 [B]; a number outside of [0, N) gives a row of NaN
 * @returns y [B, D], of x's type
 * @throws ShapeError for other ranks and types
 */
export function gatherRows(x: Tensor, index: Tensor): Tensor {
  check(
    x.rank === 2 && isFloat(x.dtype) && index.rank === 1 && index.dtype === 'int32',
    'gatherRows',
    'x as floating [N, D] and an index of int32 [B]',
    () => `${x.toString()} and ${index.toString()}`,
  );
  const { device, dtype } = x;
  const [rows, columns] = [x.dim(0), x.dim(1)];
  const y = empty([index.size, columns], { dtype, device, label: 'gatherRows' });
  device.kernels.gather_rows(y, x, index, rows, columns);
  return record('gatherRows', y, [x], [index], (dy) => {
    const dx = x.like('gatherRows dx', accumulator(dtype));
    const wide = dtype === dx.dtype ? dy : dy.to(dx.dtype);
    device.kernels.gather_rows_backward(dx, wide, index, rows, columns);
    return [dtype === dx.dtype ? dx : dx.to(dtype)];
  });
}
