/**
 * Element-wise operations of two tensors that broadcast, or of a tensor and a number. The formulas are in
 * native/elementwise.h. The gradient of a broadcast operand is summed over the axes it was repeated along.
 */
import { check } from '../../tensor/errors.js';
import { isFloat } from '../../tensor/dtype.js';
import { broadcastShape, sameShape, stridesOf, type Shape } from '../../tensor/shape.js';
import { empty, full, type Tensor } from '../../tensor/tensor.js';
import { record } from '../tape.js';
import { sum } from './reduce.js';
import { ints } from './shape.js';
import { affine } from './unary.js';

/** In the order of TURL_BINARY. */
const names = ['add', 'sub', 'mul', 'div', 'maximum', 'atLeast'] as const;

/** Strides of `shape` seen as the larger shape `target`: 0 along the axes where it repeats. */
function broadcastStrides(shape: Shape, target: Shape): number[] {
  const own = stridesOf(shape);
  const missing = target.length - shape.length;
  return target.map((n, i) =>
    i < missing || (shape[i - missing] === 1 && n !== 1) ? 0 : (own[i - missing] as number),
  );
}

/** Joins neighbouring axes that both operands cross without a jump, so that the kernel's last axis is long. */
function joinAxes(shape: Shape, a: number[], b: number[]): [number[], number[], number[]] {
  const joined: [number, number, number][] = [];
  shape.forEach((n, i) => {
    if (n === 1) return;
    const [sa, sb] = [a[i] as number, b[i] as number];
    const last = joined.at(-1);
    if (last && last[1] === sa * n && last[2] === sb * n) joined[joined.length - 1] = [last[0] * n, sa, sb];
    else joined.push([n, sa, sb]);
  });
  return [joined.map((j) => j[0]), joined.map((j) => j[1]), joined.map((j) => j[2])];
}

/** The value alone, not recorded. */
function compute(name: (typeof names)[number], a: Tensor, b: Tensor): Tensor {
  check(
    isFloat(a.dtype) && a.dtype === b.dtype,
    name,
    'two tensors of one floating type',
    () => `${a.toString()} and ${b.toString()}`,
  );
  const shape = broadcastShape(name, a.shape, b.shape);
  const y = empty(shape, { dtype: a.dtype, device: a.device, label: name });
  const [joined, sa, sb] = sameShape(a.shape, b.shape)
    ? [[], [], []]
    : joinAxes(shape, broadcastStrides(a.shape, shape), broadcastStrides(b.shape, shape));
  a.device.kernels.binary_forward(y, a, b, ints(joined), ints(sa), ints(sb), names.indexOf(name));
  return y;
}

/** The gradient of an operand of `shape` from that of the broadcast result. */
function sumTo(gradient: Tensor, shape: Shape): Tensor {
  if (sameShape(gradient.shape, shape)) return gradient;
  const missing = gradient.rank - shape.length;
  const axes = gradient.shape.flatMap((n, i) => (i < missing || shape[i - missing] !== n ? [i] : []));
  return sum(gradient, axes, true).view(shape);
}

/** a + b */
export function add(a: Tensor, b: Tensor | number): Tensor {
  if (typeof b === 'number') return affine(a, 1, b);
  return record('add', compute('add', a, b), [a, b], [], (dy, needs) => [
    needs[0] ? sumTo(dy, a.shape) : undefined,
    needs[1] ? sumTo(dy, b.shape) : undefined,
  ]);
}

/** a - b */
export function sub(a: Tensor | number, b: Tensor | number): Tensor {
  if (typeof b === 'number') return affine(asTensor('sub', a), 1, -b);
  if (typeof a === 'number') return affine(b, -1, a);
  return record('sub', compute('sub', a, b), [a, b], [], (dy, needs) => [
    needs[0] ? sumTo(dy, a.shape) : undefined,
    needs[1] ? affine(sumTo(dy, b.shape), -1) : undefined,
  ]);
}

/** a b, element by element */
export function mul(a: Tensor, b: Tensor | number): Tensor {
  if (typeof b === 'number') return affine(a, b);
  return record('mul', compute('mul', a, b), [a, b], [a, b], (dy, needs) => [
    needs[0] ? sumTo(compute('mul', dy, b), a.shape) : undefined,
    needs[1] ? sumTo(compute('mul', dy, a), b.shape) : undefined,
  ]);
}

/** a / b, element by element */
export function div(a: Tensor | number, b: Tensor | number): Tensor {
  if (typeof b === 'number') return affine(asTensor('div', a), 1 / b);
  const top = typeof a === 'number' ? full([1], a, { dtype: b.dtype, device: b.device }) : a;
  const y = compute('div', top, b);
  // d(a / b) = da / b - (a / b) db / b
  const result = record('div', y, [top, b], [b, y], (dy, needs) => {
    const da = compute('div', dy, b);
    return [
      needs[0] ? sumTo(da, top.shape) : undefined,
      needs[1] ? affine(sumTo(compute('mul', da, y), b.shape), -1) : undefined,
    ];
  });
  if (top !== a) top.dispose();
  return result;
}

/** The larger of a and b, NaN where either is; where they are equal the gradient goes to a. */
export function maximum(a: Tensor, b: Tensor): Tensor {
  return record('maximum', compute('maximum', a, b), [a, b], [a, b], (dy) => {
    const da = compute('mul', dy, compute('atLeast', a, b));
    return [sumTo(da, a.shape), sumTo(compute('sub', dy, da), b.shape)];
  });
}

function asTensor(op: string, value: Tensor | number): Tensor {
  check(typeof value !== 'number', op, 'a tensor', () => 'two numbers');
  return value;
}
