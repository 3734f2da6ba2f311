import { check } from '../../tensor/errors.js';
import { accumulator, isFloat, type DType } from '../../tensor/dtype.js';
import { empty, type Tensor } from '../../tensor/tensor.js';
import { sameShape, sizeOf } from '../../tensor/shape.js';
import { record } from '../tape.js';

/** What op is: the matrix itself when left out. */
export interface MatmulOptions {
  /** Whether a is [..., k, m]. */
  transposeA?: boolean;
  /** Whether b is [..., n, k]. */
  transposeB?: boolean;
}

/**
 * The value of `matmul` alone. Where a, b or the result (`dtype`) is bfloat16 the others may be float32, of which 16 bits or more count: a sum over a
 * batch is not rounded, nor a weight.
 */
export function matmulValue(
  a: Tensor,
  b: Tensor,
  { transposeA = false, transposeB = false }: MatmulOptions = {},
  dtype: DType = a.dtype,
): Tensor {
  const both = () => `${a.toString()} and ${b.toString()}`;
  check(
    isFloat(a.dtype) && accumulator(a.dtype) === accumulator(b.dtype) && a.rank >= 2 && a.rank === b.rank,
    'matmul',
    'two floating tensors of one type and rank, 2 or more, or of bfloat16 and float32',
    both,
  );
  const leading = a.shape.slice(0, -2);
  check(sameShape(leading, b.shape.slice(0, -2)), 'matmul', 'equal leading dimensions', both);
  const [m, k] = transposeA ? [a.dim(-1), a.dim(-2)] : [a.dim(-2), a.dim(-1)];
  const [inner, n] = transposeB ? [b.dim(-1), b.dim(-2)] : [b.dim(-2), b.dim(-1)];
  check(
    k === inner,
    'matmul',
    `inner dimensions to agree`,
    () => `${k} of ${a.toString()} and ${inner} of ${b.toString()}`,
  );
  const y = empty([...leading, m, n], { dtype, device: a.device, label: 'matmul' });
  a.device.kernels.matmul(y, a, b, sizeOf(leading), m, n, k, Number(transposeA), Number(transposeB));
  return y;
}

/**
 * Matrix product y = op(a) op(b), op transposing or not; sums are formed in float32 for bfloat16.
 * @param a floating, op(a) [..., m, k]
 * @param b of a's type, op(b) [..., k, n], with the leading dimensions of a
 * @returns y [..., m, n], of that type
 * @throws ShapeError for operands of two types or ranks, and for leading or inner dimensions that differ
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  const { transposeA = false, transposeB = false } = options;
  check(
    a.dtype === b.dtype,
    'matmul',
    'two tensors of one type',
    () => `${a.toString()} and ${b.toString()}`,
  );
  const y = matmulValue(a, b, options);
  // With A = op(a), B = op(b): dA = dy Bᵀ and dB = Aᵀ dy; transposed once more where op transposes.
  return record('matmul', y, [a, b], [a, b], (dy, needs) => [
    needs[0]
      ? transposeA
        ? matmulValue(b, dy, { transposeA: transposeB, transposeB: true })
        : matmulValue(dy, b, { transposeB: !transposeB })
      : undefined,
    needs[1]
      ? transposeB
        ? matmulValue(dy, a, { transposeA: true, transposeB: transposeA })
        : matmulValue(a, dy, { transposeA: !transposeA })
      : undefined,
  ]);
}
