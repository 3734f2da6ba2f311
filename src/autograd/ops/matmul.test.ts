import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { checkGradients } from '../gradient-check.js';
import { assertClose, devices, leaf, randomTensor } from '../../testing.js';
import { Tape } from '../tape.js';
import { parameter, tensor, zeros } from '../../tensor/tensor.js';
import { scope } from '../../tensor/scope.js';
import { matmul, matmulValue } from './matmul.js';

const test = suite('matmul');

/** batch, m, n, k */
const sizes = [
  [1, 1, 1, 1],
  [1, 7, 5, 3],
  [1, 13, 33, 17],
  [3, 4, 18, 9],
  [1, 136, 72, 40], // rows in packs of 8: bfloat16 takes the matrix units of CUDA, in several tiles
  [1, 264, 136, 8], // of 256 x 128
  [1, 8, 16, 328], // deeper than a ring of four stages of 64
  [1, 8, 16, 776], // CUDA's blocks share the inner dimension
  [1, 8, 72, 520],
  [2, 5, 3, 520],
  [2, 8, 24, 104],
  [2, 13, 21, 16], // inner dimension in packs, outer ones odd
  [1, 1, 16, 8], // one row
  [2, 8, 0, 8],
  [1, 8, 8, 0],
  [1, 0, 4, 3],
  [2, 3, 4, 0],
  [0, 2, 2, 2],
] as const;
const large = [
  [1, 70, 200, 300],
  [2, 129, 65, 530],
] as const;
const flags = [false, true] as const;

const shapeOf = (batch: number, rows: number, columns: number, transposed: boolean) => [
  ...(batch === 1 ? [] : [batch]),
  ...(transposed ? [columns, rows] : [rows, columns]),
];

/** op(a)[i, p] of batch b. */
const element =
  (values: ArrayLike<number>, rows: number, columns: number, transposed: boolean) =>
  (b: number, i: number, p: number) =>
    values[b * rows * columns + (transposed ? p * rows + i : i * columns + p)] as number;

// Terms are below 1 and of random sign: a float32 sum of n <= 776 of them errs by less than sqrt(n) * 6e-8 * sqrt(n / 9) < 2e-5.
// Products of bfloat16 are exact in float32, so their sums err alike; a bfloat16 result is then rounded once, 2^-8 of its size.
for (const device of devices)
  for (const [dtype, tolerance] of [
    ['float32', 2e-5],
    ['bfloat16', 2 ** -8 + 2e-5],
  ] as const)
    test(`${dtype} on ${device.name}: value and gradients equal the formula`, () => {
      for (const [batch, m, n, k] of device.name === 'emulated' ? sizes : [...sizes, ...large])
        for (const transposeA of flags)
          for (const transposeB of flags)
            scope(() => {
              const what = `${batch} x ${m} x ${n} x ${k} ${transposeA} ${transposeB}`;
              const a = parameter(randomTensor(shapeOf(batch, m, k, transposeA), 1, { device, dtype }));
              const b = parameter(randomTensor(shapeOf(batch, k, n, transposeB), 2, { device, dtype }));
              const tape = new Tape();
              const y = tape.record(() => matmul(a, b, { transposeA, transposeB }));
              const dy = randomTensor(y.shape, 3, { device, dtype });
              const A = element(a.toArray(), m, k, transposeA);
              const B = element(b.toArray(), k, n, transposeB);
              const G = element(dy.toArray(), m, n, false);
              const sums = (
                rows: number,
                columns: number,
                inner: number,
                transposed: boolean,
                term: (c: number, i: number, j: number, p: number) => number,
              ) => {
                const result = new Float64Array(batch * rows * columns);
                for (let c = 0; c < batch; c++)
                  for (let i = 0; i < rows; i++)
                    for (let j = 0; j < columns; j++) {
                      let sum = 0;
                      for (let p = 0; p < inner; p++) sum += term(c, i, j, p);
                      result[c * rows * columns + (transposed ? j * rows + i : i * columns + j)] = sum;
                    }
                return result;
              };
              assertClose(
                y.toArray(),
                sums(m, n, k, false, (c, i, j, p) => A(c, i, p) * B(c, p, j)),
                tolerance,
                `${what}: y`,
              );
              tape.backward(y, dy);
              assertClose(
                a.grad?.toArray() ?? [],
                sums(m, k, n, transposeA, (c, i, p, j) => G(c, i, j) * B(c, p, j)),
                tolerance,
                `${what}: da`,
              );
              assertClose(
                b.grad?.toArray() ?? [],
                sums(k, n, m, transposeB, (c, p, j, i) => A(c, i, p) * G(c, i, j)),
                tolerance,
                `${what}: db`,
              );
            });
    });

// Results that fit no cache are written past them on the CPU.
test('a large product has the bits of its halves', () => {
  const [m, n, k] = [66, 32784, 20];
  const a = randomTensor([m, k], 1);
  for (const dtype of ['float32', 'bfloat16'] as const) {
    const b = randomTensor([k, n], 2, { dtype });
    const product = (from: number, to: number) => {
      const rows = tensor(a.toArray().slice(from * k, to * k), [to - from, k], { dtype });
      const y = matmulValue(rows, b, {}, 'float32');
      const bytes = Buffer.from(y.toArray().buffer);
      for (const t of [rows, y]) t.dispose();
      return bytes;
    };
    const halves = Buffer.concat([product(0, m / 2), product(m / 2, m)]);
    assert.ok(product(0, m).equals(halves), dtype);
    b.dispose();
  }
  a.dispose();
});

test('the gradient equals finite differences', () => {
  // The function is linear in either input: only the rounding of doubles remains.
  for (const transposeA of flags)
    for (const transposeB of flags)
      checkGradients(
        (a, b) => matmul(a, b, { transposeA, transposeB }),
        [leaf(shapeOf(2, 3, 4, transposeA), 1), leaf(shapeOf(2, 4, 2, transposeB), 2)],
      );
});

test('wrong shapes are refused', () => {
  assert.throws(
    () => matmul(zeros([2, 3]), zeros([4, 2])),
    /matmul: expected inner dimensions to agree, got 3 of float32 \[2, 3\] and 4/,
  );
  assert.throws(() => matmul(zeros([2, 2, 3]), zeros([3, 3, 2])), /equal leading dimensions/);
  assert.throws(() => matmul(zeros([3]), zeros([3])), /of one type and rank/);
});

test.run();
