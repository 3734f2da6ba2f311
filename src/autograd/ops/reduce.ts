/**
 * sum, mean and max over any axes. Sums are formed in double precision, in an order that depends on the shape only, and rounded
 * once to the tensor's type.
 */
import { accumulator, isFloat, type DType } from '../../tensor/dtype.js';
import { check } from '../../tensor/errors.js';
import { scope } from '../../tensor/scope.js';
import { axisOf, sizeOf, stridesOf, type Shape } from '../../tensor/shape.js';
import { empty, type Tensor } from '../../tensor/tensor.js';
import { record } from '../tape.js';
import { reshape, stridedCopy } from './shape.js';

/** Axes to reduce: one, several, or all when left out. */
export type Axes = number | readonly number[] | undefined;

interface Group {
  /** x seen as [outer, n, inner], reduced over n. */
  outer: number;
  n: number;
  inner: number;
}

function axesOf(op: string, axes: Axes, rank: number): number[] {
  const list = axes === undefined ? Array.from({ length: rank }, (_, i) => i) : [axes].flat();
  return [...new Set(list.map((axis) => axisOf(op, axis, rank)))].sort((a, b) => a - b);
}

function reducedShape(shape: Shape, axes: readonly number[], keepDims: boolean): number[] {
  return shape.flatMap((n, i) => (axes.includes(i) ? (keepDims ? [1] : []) : [n]));
}

/** Runs of neighbouring axes, the last run first, each as a reduction of what the ones before it left. */
function groupsOf(shape: Shape, axes: readonly number[]): Group[] {
  const left = [...shape];
  const groups: Group[] = [];
  for (let end = axes.length; end > 0;) {
    let start = end - 1;
    while (start > 0 && axes[start - 1] === (axes[start] as number) - 1) start--;
    const [first, last] = [axes[start] as number, axes[end - 1] as number];
    const n = sizeOf(shape.slice(first, last + 1));
    groups.push({ outer: sizeOf(left.slice(0, first)), n, inner: sizeOf(left.slice(last + 1)) });
    left.fill(1, first, last + 1);
    end = start;
  }
  return groups;
}

function scaledSum(op: string, x: Tensor, axes: Axes, keepDims: boolean, mean: boolean): Tensor {
  check(isFloat(x.dtype), op, 'a floating type', () => x.toString());
  const list = axesOf(op, axes, x.rank);
  const groups = groupsOf(x.shape, list);
  const scale = mean ? 1 / groups.reduce((n, group) => n * group.n, 1) : 1;
  const { device } = x;
  let y = x;
  groups.forEach(({ outer, n, inner }, i) => {
    const last = i === groups.length - 1;
    const dtype: DType = last ? x.dtype : accumulator(x.dtype);
    const part = empty([outer, inner], { dtype, device, label: op });
    device.kernels.sum(part, y, outer, n, inner, last ? scale : 1);
    if (y !== x) y.dispose();
    y = part;
  });
  const kept = reducedShape(x.shape, list, true);
  const result = y.view(reducedShape(x.shape, list, keepDims));
  if (y !== x) y.dispose();
  return record(op, result, [x], [], (dy) => {
    const dx = x.like(`${op} dx`);
    const strides = stridesOf(kept).map((stride, i) => (list.includes(i) ? 0 : stride));
    let part = dy;
    if (scale !== 1) device.kernels.affine((part = dy.like(op)), dy, scale, 0);
    stridedCopy(dx, part, x.shape, stridesOf(x.shape), strides);
    return [dx];
  });
}

/** The sum over `axes` (all when left out), in x's type. */
export function sum(x: Tensor, axes?: Axes, keepDims = false): Tensor {
  return scaledSum('sum', x, axes, keepDims, false);
}

/** The mean over `axes` (all when left out), in x's type. */
export function mean(x: Tensor, axes?: Axes, keepDims = false): Tensor {
  return scaledSum('mean', x, axes, keepDims, true);
}

/** The maximum over `axes` (all when left out). A NaN wins. The gradient goes to the first of equal elements. */
export function max(x: Tensor, axes?: Axes, keepDims = false): Tensor {
  check(isFloat(x.dtype), 'max', 'a floating type', () => x.toString());
  const list = axesOf('max', axes, x.rank);
  check(
    list.every((axis) => x.dim(axis) > 0),
    'max',
    'axes with at least one element',
    () => x.toString(),
  );
  return scope(() => {
    const y = groupsOf(x.shape, list).reduce(maxGroup, x);
    return reshape(y, reducedShape(x.shape, list, keepDims));
  });
}

/** One maximum; what it saves is freed with the scope of `max` or kept by the tape. */
function maxGroup(x: Tensor, { outer, n, inner }: Group): Tensor {
  const { device, dtype } = x;
  const y = empty([outer, inner], { dtype, device, label: 'max' });
  const index = empty([outer, inner], { dtype: 'int32', device, label: 'max index' });
  device.kernels.max_forward(y, index, x, outer, n, inner);
  return record('max', y, [x], [index], (dy) => {
    const dx = x.like('max dx');
    device.kernels.max_backward(dx, dy, index, outer, n, inner);
    return [dx];
  });
}
