import { scope } from '../../tensor/scope.js';
import type { Tensor } from '../../tensor/tensor.js';
import { noGrad } from '../tape.js';
import { add, sub } from './binary.js';
import { max, sum } from './reduce.js';
import { reshape } from './shape.js';
import { exp, log } from './unary.js';

/**
 * log Σ exp x over the last axis, without overflow: x [..., N], result [...]. Composed: m + log Σ exp(x − m), m the maximum.
 * @throws ShapeError for integers, a scalar, or N = 0
 */
export function logSumExp(x: Tensor): Tensor {
  return scope(() => {
    // What is subtracted is added again, so that its gradient is nothing.
    const most = noGrad(() => max(x, -1, true));
    return add(log(sum(exp(sub(x, most)), -1)), reshape(most, x.shape.slice(0, -1)));
  });
}
