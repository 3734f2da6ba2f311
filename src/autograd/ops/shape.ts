/** Operations that move elements without changing them: reshape, transpose, slice, concat. */
import { check } from '../../tensor/errors.js';
import {
  axisOf,
  formatShape,
  isShape,
  sameShape,
  sizeOf,
  stridesOf,
  type Shape,
} from '../../tensor/shape.js';
import { empty, zeros, type Tensor } from '../../tensor/tensor.js';
import { record } from '../tape.js';

/** Whole numbers for a kernel's `Ints`; refuses what 32 bits cannot hold. */
export function ints(values: readonly number[]): Int32Array {
  check(
    values.every((n) => n === (n | 0)),
    'a tensor operation',
    'strides below 2^31 elements',
    () => formatShape(values),
  );
  return Int32Array.from(values);
}

/** y[yOffset + i yStrides] = x[xOffset + i xStrides] for all i of the space `shape`; offsets and strides in elements. */
export function stridedCopy(
  y: Tensor,
  x: Tensor,
  shape: Shape,
  yStrides: readonly number[],
  xStrides: readonly number[],
  yOffset = 0,
  xOffset = 0,
): void {
  const space = shape.length > 0 ? [shape, yStrides, xStrides] : [[1], [1], [1]];
  const [sizes, to, from] = space.map((values) => ints(values)) as [Int32Array, Int32Array, Int32Array];
  y.device.kernels.strided_copy(y, x, sizes, to, from, yOffset, xOffset);
}

/** The same elements, in order, under another shape; one size may be -1. Shares memory with x. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const known = sizeOf(shape.filter((n) => n !== -1));
  const full = shape.map((n) => (n === -1 ? x.size / known : n));
  check(
    shape.filter((n) => n === -1).length <= 1 && isShape(full) && sizeOf(full) === x.size,
    'reshape',
    `a shape of ${x.size} elements`,
    () => formatShape(shape),
  );
  return record('reshape', x.view(full), [x], [], (dy) => [dy.view(x.shape)]);
}

/** Axis i of the result is axis `order[i]` of x; without `order` the last two axes change places. */
export function transpose(x: Tensor, order?: readonly number[]): Tensor {
  const axes = Array.from({ length: x.rank }, (_, i) => i);
  const chosen = order
    ? order.map((axis) => axisOf('transpose', axis, x.rank))
    : [...axes.slice(0, -2), ...axes.slice(-2).reverse()];
  check(
    chosen.length === x.rank && new Set(chosen).size === x.rank,
    'transpose',
    `an order of the ${x.rank} axes`,
    () => formatShape(chosen),
  );
  const shape = chosen.map((axis) => x.dim(axis));
  const strides = stridesOf(x.shape);
  const y = empty(shape, { dtype: x.dtype, device: x.device, label: 'transpose' });
  stridedCopy(
    y,
    x,
    shape,
    stridesOf(shape),
    chosen.map((axis) => strides[axis] as number),
  );
  return record('transpose', y, [x], [], (dy) => [
    transpose(
      dy,
      axes.map((axis) => chosen.indexOf(axis)),
    ),
  ]);
}

/** Elements start <= i < end along `axis`. */
export function slice(x: Tensor, axis: number, start: number, end: number): Tensor {
  const along = axisOf('slice', axis, x.rank);
  check(
    Number.isInteger(start) && Number.isInteger(end) && 0 <= start && start <= end && end <= x.dim(along),
    'slice',
    `0 <= start <= end <= ${x.dim(along)}`,
    () => `${start} and ${end}`,
  );
  const shape = x.shape.map((n, i) => (i === along ? end - start : n));
  const strides = stridesOf(x.shape);
  const offset = start * (strides[along] as number);
  const y = empty(shape, { dtype: x.dtype, device: x.device, label: 'slice' });
  stridedCopy(y, x, shape, stridesOf(shape), strides, 0, offset);
  return record('slice', y, [x], [], (dy) => {
    const dx = zeros(x.shape, { dtype: x.dtype, device: x.device, label: 'slice dx' });
    stridedCopy(dx, dy, shape, strides, stridesOf(shape), offset, 0);
    return [dx];
  });
}

/** The tensors one after the other along `axis`; their other sizes are equal. */
export function concat(parts: readonly Tensor[], axis = 0): Tensor {
  const first = parts[0];
  check(first !== undefined, 'concat', 'at least one tensor', () => 'none');
  const along = axisOf('concat', axis, first.rank);
  const without = (x: Tensor) => x.shape.filter((_, i) => i !== along);
  check(
    parts.every(
      (x) => x.rank === first.rank && x.dtype === first.dtype && sameShape(without(x), without(first)),
    ),
    'concat',
    `tensors of ${first.dtype} that differ along axis ${along} only`,
    () => parts.map(String).join(' and '),
  );
  const length = parts.reduce((n, x) => n + x.dim(along), 0);
  const shape = first.shape.map((n, i) => (i === along ? length : n));
  const strides = stridesOf(shape);
  const y = empty(shape, { dtype: first.dtype, device: first.device, label: 'concat' });
  const starts: number[] = [];
  let start = 0;
  for (const x of parts) {
    starts.push(start);
    stridedCopy(y, x, x.shape, strides, stridesOf(x.shape), start * (strides[along] as number));
    start += x.dim(along);
  }
  return record('concat', y, parts, [], (dy, needs) =>
    parts.map((x, i) => {
      const from = starts[i] as number;
      return needs[i] ? slice(dy, along, from, from + x.dim(along)) : undefined;
    }),
  );
}
