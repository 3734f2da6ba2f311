/** Shapes: sizes, names and broadcasting. Row-major, images are NHWC. */
import { check } from './errors.js';

/** The sizes of all dimensions; none for a scalar. */
export type Shape = readonly number[];

/** The number of elements. */
export function sizeOf(shape: Shape): number {
  return shape.reduce((size, n) => size * n, 1);
}

/** Whether all sizes are whole numbers, 0 or more. */
export function isShape(sizes: readonly number[]): boolean {
  return sizes.every((n) => Number.isInteger(n) && n >= 0);
}

/** Whether rank and sizes are equal. */
export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((n, i) => n === b[i]);
}

/** "[2, 3]", for messages. */
export function formatShape(shape: Shape): string {
  return `[${shape.join(', ')}]`;
}

/** Strides in elements of a contiguous array. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  for (let i = shape.length - 1, stride = 1; i >= 0; stride *= shape[i] as number, i--) strides[i] = stride;
  return strides;
}

/** The shape both operands are broadcast to: sizes are equal or 1, aligned at the last dimension. */
export function broadcastShape(op: string, a: Shape, b: Shape): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const m = a[i - rank + a.length] ?? 1;
    const n = b[i - rank + b.length] ?? 1;
    check(
      m === n || m === 1 || n === 1,
      op,
      'shapes that broadcast',
      () => `${formatShape(a)} and ${formatShape(b)}`,
    );
    return m === 1 ? n : m;
  });
}

/** A dimension counted from the front; negative ones count from the end. */
export function axisOf(op: string, axis: number, rank: number): number {
  const found = axis < 0 ? axis + rank : axis;
  check(Number.isInteger(axis) && found >= 0 && found < rank, op, `an axis below ${rank}`, () =>
    String(axis),
  );
  return found;
}
