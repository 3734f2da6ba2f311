// Element-wise kernels of one and two arrays. The formulas are in the order of native/elementwise.h; a case out of order is wrong.
import type { FloatType } from '../../tensor/dtype.js';
import { purposes, randomUniform } from '../../tensor/philox.js';
import { at, bytesFor, output, random, suffix, type KernelCase, type Sizes } from '../case.js';

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

/** Value of x, and gradient from dy and what is saved: the input or the value, both of which are made positive where they must be. */
const unary: readonly [string, (x: number) => number, (dy: number, saved: number) => number][] = [
  ['neg', (x) => -x, (dy) => -dy],
  ['exp', Math.exp, (dy, y) => dy * y],
  ['log', Math.log, (dy, x) => dy / x],
  ['sqrt', Math.sqrt, (dy, y) => (0.5 * dy) / y],
  ['square', (x) => x * x, (dy, x) => 2 * x * dy],
  ['abs', Math.abs, (dy, x) => (x > 0 ? dy : -dy)],
  ['sigmoid', sigmoid, (dy, y) => dy * y * (1 - y)],
  ['softplus', (x) => Math.log1p(Math.exp(x)), (dy, x) => dy * sigmoid(x)],
  ['relu', (x) => Math.max(x, 0), (dy, y) => (y > 0 ? dy : 0)],
  ['tanh', Math.tanh, (dy, y) => dy * (1 - y * y)],
];
const binary: readonly [string, (a: number, b: number) => number][] = [
  ['add', (a, b) => a + b],
  ['sub', (a, b) => a - b],
  ['mul', (a, b) => a * b],
  ['div', (a, b) => a / b],
  ['maximum', Math.max],
  ['at_least', (a, b) => Number(a >= b)],
];
const positive = (draw: number) => draw + 1.5;
/** log, sqrt and div are taken of positive numbers only. */
const mapOf = (name: string) => (['log', 'sqrt', 'div'].includes(name) ? { map: positive } : {});

function unaryCase(op: number, elements: number, backward: boolean, dtype: FloatType): KernelCase {
  const [name, value, gradient] = unary[op] ?? ['', () => NaN, () => NaN];
  return {
    kernel: backward ? 'unary_backward' : 'unary_forward',
    shape: `${name} ${elements}${suffix(dtype)}`,
    operations: elements,
    bytes: bytesFor(dtype, (backward ? 3 : 2) * elements),
    prepare(device) {
      const x = random(device, [elements], 1, { dtype, ...mapOf(name) });
      const dy = random(device, [elements], 2, { dtype });
      const y = output(device, [elements], dtype);
      const { unary_forward, unary_backward } = device.kernels;
      return backward
        ? {
            run: () => unary_backward(y, dy.t, x.t, op),
            results: [{ output: y, expected: (i) => gradient(at(dy.values, i), at(x.values, i)) }],
          }
        : {
            run: () => unary_forward(y, x.t, op),
            results: [{ output: y, expected: (i) => value(at(x.values, i)) }],
          };
    },
  };
}

/** Of two arrays of one shape; or [rows, 512] and a row that repeats. */
function binaryCase(op: number, elements: number, repeats: boolean): KernelCase {
  const [name, value] = binary[op] ?? ['', () => NaN];
  const columns = 512;
  return {
    kernel: 'binary_forward',
    shape: `${name} ${elements}${repeats ? ` by a row of ${columns}` : ''}`,
    operations: elements,
    bytes: 4 * ((repeats ? 2 : 3) * elements + (repeats ? columns : 0)),
    prepare(device) {
      const a = random(device, [elements], 1);
      const b = random(device, [repeats ? columns : elements], 2, mapOf(name));
      const y = output(device, [elements]);
      const [shape, sa, sb] = (
        repeats
          ? [
              [elements / columns, columns],
              [columns, 1],
              [0, 1],
            ]
          : [[], [], []]
      ).map((list) => Int32Array.from(list)) as [Int32Array, Int32Array, Int32Array];
      const expected = (i: number) => value(at(a.values, i), at(b.values, repeats ? i % columns : i));
      return {
        run: () => device.kernels.binary_forward(y, a.t, b.t, shape, sa, sb, op),
        results: [{ output: y, expected }],
      };
    },
  };
}

function add(elements: number, dtype: FloatType): KernelCase {
  return {
    kernel: 'add',
    shape: `${elements}${suffix(dtype)}`,
    operations: elements,
    bytes: bytesFor(dtype, 3 * elements),
    prepare(device) {
      const [a, b] = [random(device, [elements], 1, { dtype }), random(device, [elements], 2, { dtype })];
      const y = output(device, [elements], dtype);
      const expected = (i: number) => at(a.values, i) + at(b.values, i);
      return { run: () => device.kernels.add(y, a.t, b.t), results: [{ output: y, expected }] };
    },
  };
}

function affine(elements: number): KernelCase {
  return {
    kernel: 'affine',
    shape: `${elements}`,
    operations: 2 * elements,
    bytes: 8 * elements,
    prepare(device) {
      const x = random(device, [elements], 1);
      const y = output(device, [elements]);
      const expected = (i: number) => 1.25 * at(x.values, i) - 0.5;
      return { run: () => device.kernels.affine(y, x.t, 1.25, -0.5), results: [{ output: y, expected }] };
    },
  };
}

/** Element i is kept where its draw is at least one half. */
function dropout(elements: number): KernelCase {
  return {
    kernel: 'dropout',
    shape: `${elements}`,
    operations: elements,
    bytes: 8 * elements,
    prepare(device) {
      const x = random(device, [elements], 1);
      const y = output(device, [elements]);
      const { values } = x;
      const expected = (i: number) =>
        randomUniform(1, purposes.dropout, 2, 3, i) >= 0.5 ? 2 * at(values, i) : 0;
      return {
        run: () => device.kernels.dropout(y, x.t, 0.5, 1, 2, 3),
        results: [{ output: y, expected }],
      };
    },
  };
}

export function elementwiseCases({ elements }: Sizes): KernelCase[] {
  const small = elements / 4;
  return [
    add(elements, 'float32'),
    add(elements, 'bfloat16'),
    affine(elements),
    dropout(small),
    ...unary.flatMap((_, op) => [
      unaryCase(op, small, false, 'float32'),
      unaryCase(op, small, true, 'float32'),
    ]),
    unaryCase(6, small, false, 'bfloat16'),
    unaryCase(6, small, true, 'bfloat16'),
    ...binary.map((_, op) => binaryCase(op, small, false)),
    binaryCase(2, small, true),
  ];
}
