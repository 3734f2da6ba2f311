import { check } from '../../tensor/errors.js';
import { empty, type Tensor } from '../../tensor/tensor.js';

/**
 * The likelihood that two images show one person (Eq. 16, §3.5), between every row of a and every row of b:
 * y_ij = −½ Σ_k ((2 − 2 a_i^(k)·b_j^(k)) / v + d log v), v = σ_i^(k)² + σ_j^(k)², d = D / K. A value without a gradient; for
 * training, where few pairs count, there is `mutualLikelihood`.
 * @param a [m, D], float32 or float64 as all are; its K groups each have length 1, and so have those of b
 * @param b [n, D]
 * @param varianceA σ² = 1 / s [m, K]
 * @param varianceB [n, K]
 * @returns y [m, n]
 * @throws ShapeError for other shapes and types
 */
export function pairScores(a: Tensor, b: Tensor, varianceA: Tensor, varianceB: Tensor): Tensor {
  const all = [a, b, varianceA, varianceB];
  const text = () => all.map(String).join(', ');
  check(
    all.every((t) => t.rank === 2 && t.dtype === a.dtype) && ['float32', 'float64'].includes(a.dtype),
    'pairScores',
    'four matrices of float32 or float64',
    text,
  );
  const [rows, columns, width, groups] = [a.dim(0), b.dim(0), a.dim(1), varianceA.dim(1)];
  check(
    b.dim(1) === width &&
      varianceB.dim(1) === groups &&
      varianceA.dim(0) === rows &&
      varianceB.dim(0) === columns &&
      groups >= 1 &&
      width % groups === 0,
    'pairScores',
    'a [m, D], b [n, D] and variances [m, K], [n, K] of a divisor K of D',
    text,
  );
  const y = empty([rows, columns], { dtype: a.dtype, device: a.device, label: 'pair scores' });
  a.device.kernels.pair_scores(y, a, b, varianceA, varianceB, rows, columns, groups, width / groups);
  return y;
}
