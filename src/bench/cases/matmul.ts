// Matrix products y [m, n] = op(a) op(b) over k: the embedding layer with both its gradients, and a square.
import type { FloatType } from '../../tensor/dtype.js';
import { at, bytesFor, output, random, some, suffix, sumOver, type KernelCase, type Sizes } from '../case.js';

interface Product {
  m: number;
  n: number;
  k: number;
  /** Whether a is [k, m], b is [n, k]. */
  transposeA?: boolean;
  transposeB?: boolean;
}

export function product(sizes: Product, dtype: FloatType = 'float32'): KernelCase {
  const { m, n, k, transposeA = false, transposeB = false } = sizes;
  // A weight's gradient stays float32.
  const result = transposeA ? 'float32' : dtype;
  return {
    kernel: 'matmul',
    shape: `${m}x${n}x${k}${transposeA ? ' aᵀ' : ''}${transposeB ? ' bᵀ' : ''}${suffix(dtype)}`,
    operations: 2 * m * n * k,
    bytes: bytesFor(dtype, m * k + n * k) + bytesFor(result, m * n),
    matrix: dtype === 'bfloat16',
    prepare(device) {
      const [a, b] = [
        random(device, transposeA ? [k, m] : [m, k], 1, { dtype }),
        random(device, transposeB ? [n, k] : [k, n], 2, { dtype }),
      ];
      const y = output(device, [m, n], result);
      const left = (i: number, p: number) => at(a.values, transposeA ? p * m + i : i * k + p);
      const right = (p: number, j: number) => at(b.values, transposeB ? j * k + p : p * n + j);
      const expected = (index: number) =>
        sumOver(0, k, (p) => left(Math.floor(index / n), p) * right(p, index % n));
      const flags = [Number(transposeA), Number(transposeB)] as const;
      return {
        run: () => device.kernels.matmul(y, a.t, b.t, 1, m, n, k, ...flags),
        results: [{ output: y, expected }],
      };
    },
  };
}

/** y = x wᵀ, dx = dy w and dw = dyᵀ x of the layer from `features` to 512. */
const embeddingLayer = (batch: number, features: number): readonly Product[] => [
  { m: batch, n: 512, k: features, transposeB: true },
  { m: batch, n: features, k: 512 },
  { m: 512, n: features, k: batch, transposeA: true },
];

export const matmulCases = (sizes: Sizes): KernelCase[] => {
  const { batch, features, elements } = sizes;
  const side = Math.sqrt(elements) / 4;
  return (['float32', 'bfloat16'] as const).flatMap((dtype) => [
    ...embeddingLayer(batch, features).map((one) => product(one, dtype)),
    ...some(sizes, [side, side * 2]).map((n) => product({ m: n, n, k: n }, dtype)),
  ]);
};
