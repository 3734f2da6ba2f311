/** The mean and variance of each channel of a result, which the kernel that makes it leaves for the batch normalisation that reads it. */
import { accumulator } from '../../tensor/dtype.js';
import { keep } from '../../tensor/scope.js';
import { empty, type Tensor } from '../../tensor/tensor.js';

/** Memory [2, C] for those of y, C being its last axis: it becomes `y.statistics` and lives as long as y does. */
export function roomForStatistics(y: Tensor): Tensor {
  const options = { dtype: accumulator(y.dtype), device: y.device, label: 'channel statistics' };
  return (y.statistics = keep(empty([2, y.dim(-1)], options)));
}
