/** y[i] = x[index[i]]: x [N, D], index int32 [B], y [B, D]. An index outside of [0, N) gives NaN. */
import { check } from '../../tensor/errors.js';
import { empty, type Tensor } from '../../tensor/tensor.js';
import { record } from '../tape.js';

export function gatherRows(x: Tensor, index: Tensor): Tensor {
  check(
    x.rank === 2 && index.rank === 1 && index.dtype === 'int32',
    'gatherRows',
    'x [N, D] and an index of int32 [B]',
    () => `${x.toString()} and ${index.toString()}`,
  );
  const { device, dtype } = x;
  const [rows, columns] = [x.dim(0), x.dim(1)];
  const y = empty([index.size, columns], { dtype, device, label: 'gatherRows' });
  device.kernels.gather_rows(y, x, index, rows, columns);
  return record('gatherRows', y, [x], [index], (dy) => {
    const dx = x.like('gatherRows dx');
    device.kernels.gather_rows_backward(dx, dy, index, rows, columns);
    return [dx];
  });
}
