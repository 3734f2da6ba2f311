import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { checkGradients } from '../gradient-check.js';
import { assertClose, devices, leaf, randomTensor } from '../../testing.js';
import { Tape } from '../tape.js';
import { ones, parameter, tensor, zeros, type Tensor } from '../../tensor/tensor.js';
import { scope } from '../../tensor/scope.js';
import * as unary from './unary.js';
import { add, div, maximum, mul, sub } from './binary.js';
import { gatherRows } from './gather-rows.js';
import { cast } from './cast.js';

const test = suite('elementwise');

// One formula of a few float32 roundings (6e-8 each) of values below 10; the bfloat16 result is rounded to 2^-9 relative.
const types = [
  ['float32', 1e-6],
  ['bfloat16', 8e-3],
] as const;

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const step = 1e-6;
const formulas: [keyof typeof unary, (x: Tensor) => Tensor, (x: number) => number, boolean][] = [
  ['neg', unary.neg, (x) => -x, false],
  ['exp', unary.exp, Math.exp, false],
  ['log', unary.log, Math.log, true],
  ['sqrt', unary.sqrt, Math.sqrt, true],
  ['square', unary.square, (x) => x * x, false],
  ['abs', unary.abs, Math.abs, false],
  ['sigmoid', unary.sigmoid, sigmoid, false],
  ['softplus', unary.softplus, (x) => Math.log(1 + Math.exp(x)), false],
  ['relu', unary.relu, (x) => Math.max(x, 0), false],
  ['tanh', unary.tanh, Math.tanh, false],
];

for (const device of devices)
  for (const [dtype, tolerance] of types)
    test(`${dtype} on ${device.name}: value and gradient of the unary operations equal the formula`, () => {
      for (const [name, op, formula, positive] of formulas)
        for (const shape of [[7, 11], [1], [33000], [0, 3]])
          scope(() => {
            const base = randomTensor(shape, 3, { device, dtype });
            const x = parameter(
              positive ? unary.affine(unary.abs(base), 2, 0.5) : unary.affine(base, 3, 0.01),
            );
            const dy = randomTensor(shape, 4, { device, dtype });
            const tape = new Tape();
            const y = tape.record(() => op(x));
            const xs = Array.from(x.toArray());
            const g = dy.toArray();
            assertClose(y.toArray(), xs.map(formula), tolerance, name);
            tape.backward(y, dy);
            // No x is within the step of a kink. The gradient may read the value rounded to the type, hence the factor 4.
            const slopes = xs.map(
              (v, i) => ((g[i] as number) * (formula(v + step) - formula(v - step))) / (2 * step),
            );
            assertClose(x.grad?.toArray() ?? [], slopes, 4 * tolerance, `${name} dx`);
            x.grad?.dispose();
          });
    });

for (const device of devices)
  test(`on ${device.name}: functions keep their digits over the whole range of float32`, () => {
    // Some units of 6e-8 in the last place, as each function's own comment says; what is below the smallest normal may be 0.
    const close = (a: number, e: number) => Math.abs(a - e) <= 5e-7 * Math.abs(e) + 1.2e-38;
    const small = Array.from({ length: 4001 }, (_, i) => Math.fround((i - 2000) / 20)); // -100 to 100
    const near = small.map((v) => Math.fround(v * 1e-5));
    const sizes = Array.from({ length: 2765 }, (_, i) => Math.fround(10 ** (i / 36 - 38.6)));
    const exact: [string, (x: Tensor) => Tensor, (x: number) => number, number[]][] = [
      ['exp', unary.exp, Math.exp, small.filter((v) => v < 88)],
      ['log', unary.log, Math.log, [...sizes, ...near.map((v) => Math.fround(1 + v))]],
      ['sigmoid', unary.sigmoid, sigmoid, [...small.filter((v) => v > -87), ...near]],
      [
        'softplus',
        unary.softplus,
        (v) => Math.max(v, 0) + Math.log1p(Math.exp(-Math.abs(v))),
        [...small, ...near],
      ],
      ['tanh', unary.tanh, Math.tanh, [...small, ...near, ...sizes]],
    ];
    for (const [name, op, formula, values] of exact)
      scope(() => {
        const y = op(tensor(values, [values.length], { device })).toArray();
        const bad = values.findIndex((v, i) => !close(y[i] as number, formula(v)));
        assert.is(
          bad,
          -1,
          `${name}(${values[bad]}) is ${y[bad]}, expected ${formula(values[bad] as number)}`,
        );
      });
    const zero = tensor([0, -0, -1, Infinity, NaN], [5], { device });
    assertClose(unary.log(zero).toArray(), [-Infinity, -Infinity, NaN, Infinity, NaN], 0);
    assertClose(unary.exp(zero).toArray(), [1, 1, Math.exp(-1), Infinity, NaN], 1e-7);
    assert.ok(Object.is(unary.tanh(zero).toArray()[1], -0));
  });

test('extremes: nothing overflows that should not, NaN passes through', () => {
  const x = tensor([Infinity, -Infinity, NaN, 1000, -1000]);
  assertClose(unary.sigmoid(x).toArray(), [1, 0, NaN, 1, 0], 0);
  assertClose(unary.softplus(x).toArray(), [Infinity, 0, NaN, 1000, 0], 0);
  assertClose(unary.relu(x).toArray(), [Infinity, 0, NaN, 1000, 0], 0);
  assertClose(unary.abs(x).toArray(), [Infinity, Infinity, NaN, 1000, 1000], 0);
  assertClose(unary.tanh(x).toArray(), [1, -1, NaN, 1, -1], 0);
  assertClose(maximum(x, tensor([1, 1, 1, NaN, 1])).toArray(), [Infinity, 1, NaN, NaN, 1], 0);
});

const pairs: [number[], number[]][] = [
  [
    [3, 5],
    [3, 5],
  ],
  [[3, 5], [5]],
  [
    [3, 1, 5],
    [4, 1],
  ],
  [[1], [2, 3]],
  [
    [2, 3, 4, 5],
    [2, 1, 4, 1],
  ],
  [[0, 3], [3]],
  [
    [190, 211],
    [190, 1],
  ],
];
const binaries: [string, (a: Tensor, b: Tensor) => Tensor, (a: number, b: number) => number][] = [
  ['add', add, (a, b) => a + b],
  ['sub', sub, (a, b) => a - b],
  ['mul', mul, (a, b) => a * b],
  ['div', div, (a, b) => a / b],
  ['maximum', maximum, Math.max],
];

/** The element that position i of the broadcast result reads from an operand. */
function source(shape: readonly number[], target: readonly number[], i: number): number {
  let offset = 0;
  let stride = 1;
  for (let d = 1; d <= target.length; d++) {
    const at = i % (target.at(-d) as number);
    i = Math.floor(i / (target.at(-d) as number));
    const n = shape.at(-d) ?? 1;
    offset += (n === 1 ? 0 : at) * stride;
    stride *= n;
  }
  return offset;
}

for (const device of devices)
  for (const [dtype, tolerance] of types)
    test(`${dtype} on ${device.name}: binary operations broadcast`, () => {
      for (const [name, op, formula] of binaries)
        for (const [m, n] of pairs)
          scope(() => {
            const a = randomTensor(m, 5, { device, dtype });
            const b = unary.affine(unary.abs(randomTensor(n, 6, { device, dtype })), 1, 0.5);
            const y = op(a, b);
            const [as, bs] = [a.toArray(), b.toArray()];
            const expected = Array.from({ length: y.size }, (_, i) =>
              formula(as[source(m, y.shape, i)] as number, bs[source(n, y.shape, i)] as number),
            );
            assertClose(y.toArray(), expected, tolerance, `${name} ${m.join()} ${n.join()}`);
          });
    });

test('the gradients of binary operations equal finite differences', () => {
  // The largest third derivative is that of 1 / b at 0.5, about 100: 1e-10 / 6 * 100 is far below the tolerance.
  for (const [, op] of binaries)
    for (const [m, n] of pairs.slice(0, 5))
      checkGradients((a, b) => op(a, unary.affine(b, 0.25, 1)), [leaf(m, 7), leaf(n, 8)]);
});

test('numbers as operands', () => {
  const x = leaf([5], 3);
  const xs = Array.from(x.toArray());
  assertClose(
    add(x, 2).toArray(),
    xs.map((v) => v + 2),
    1e-15,
  );
  assertClose(
    sub(1, x).toArray(),
    xs.map((v) => 1 - v),
    1e-15,
  );
  assertClose(
    sub(x, 1).toArray(),
    xs.map((v) => v - 1),
    1e-15,
  );
  assertClose(
    mul(x, -3).toArray(),
    xs.map((v) => -3 * v),
    1e-15,
  );
  assertClose(
    div(x, 3).toArray(),
    xs.map((v) => v / 3),
    1e-15,
  );
  assertClose(
    div(3, x).toArray(),
    xs.map((v) => 3 / v),
    1e-15,
  );
  checkGradients((a) => mul(sub(1, a), add(div(2, add(a, 2)), 3)), [x]);
});

test('cast keeps the gradient in the type of the input', () => {
  const x = parameter(tensor([1.001, -2.003]));
  const tape = new Tape();
  const y = tape.record(() => cast(cast(x, 'bfloat16'), 'float64'));
  assertClose(y.toArray(), [1, -2], 0);
  tape.backward(y, tensor([0.5, 3], [2], { dtype: 'float64' }));
  assert.is(x.grad?.dtype, 'float32');
  assertClose(x.grad?.toArray() ?? [], [0.5, 3], 0);
});

for (const device of devices)
  test(`gatherRows on ${device.name}: rows by index, summed back in the backward pass`, () => {
    const x = parameter(randomTensor([6, 70], 3, { device }));
    const indices = [5, 0, 5, 2, 5];
    const dy = randomTensor([5, 70], 4, { device });
    const tape = new Tape();
    const y = tape.record(() => gatherRows(x, tensor(Int32Array.from(indices), [5], { device })));
    const xs = x.toArray();
    assertClose(
      y.toArray(),
      indices.flatMap((r) => Array.from(xs.slice(r * 70, (r + 1) * 70))),
      0,
    );
    tape.backward(y, dy);
    const expected = new Float64Array(x.size);
    // Three terms below 1: 2e-7 is a bound of their rounding.
    dy.toArray().forEach((g, i) => {
      const to = (indices[Math.floor(i / 70)] as number) * 70 + (i % 70);
      expected[to] = (expected[to] as number) + g;
    });
    assertClose(x.grad?.toArray() ?? [], expected, 3e-7, 'dx');
    const outside = gatherRows(x, tensor(Int32Array.of(6, -1), [2], { device }));
    assert.ok(outside.toArray().every(Number.isNaN));
    // In bfloat16 256 + 1 is 256.
    const low = parameter(zeros([2, 3], { device, dtype: 'bfloat16' }));
    const often = new Tape();
    const taken = often.record(() => gatherRows(low, zeros([1000], { device, dtype: 'int32' })));
    often.backward(taken, ones(taken.shape, { device, dtype: 'bfloat16' }));
    assert.is(low.grad?.dtype, 'bfloat16');
    assert.equal([...(low.grad?.toArray() ?? [])], [1000, 1000, 1000, 0, 0, 0]);
  });

test('wrong shapes and types are refused', () => {
  assert.throws(
    () => add(zeros([2, 3]), zeros([2])),
    /add: expected shapes that broadcast, got \[2, 3\] and \[2\]/,
  );
  assert.throws(
    () => mul(zeros([2]), zeros([2], { dtype: 'float64' })),
    /mul: expected two tensors of one floating type/,
  );
  assert.throws(() => unary.exp(tensor(Int32Array.of(1))), /exp: expected a floating type, got int32 \[1\]/);
  assert.throws(() => gatherRows(zeros([2, 3]), zeros([2])), /gatherRows: expected/);
  const whole = zeros([2, 3], { dtype: 'int32' });
  assert.throws(
    () => gatherRows(whole, zeros([2], { dtype: 'int32' })),
    /gatherRows: expected x as floating/,
  );
});

test.run();
