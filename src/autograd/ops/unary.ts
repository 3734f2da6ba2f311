/** Element-wise operations of one tensor of a floating type; others are a ShapeError. The formulas are in native/elementwise.h. */
import { check } from '../../tensor/errors.js';
import { isFloat } from '../../tensor/dtype.js';
import type { Tensor } from '../../tensor/tensor.js';
import { record } from '../tape.js';

/** In the order of TURL_UNARY; for each, what its gradient reads: the input or the value. */
const saves = [
  ['neg', 'x'],
  ['exp', 'y'],
  ['log', 'x'],
  ['sqrt', 'y'],
  ['square', 'x'],
  ['abs', 'x'],
  ['sigmoid', 'y'],
  ['softplus', 'x'],
  ['relu', 'y'],
  ['tanh', 'y'],
] as const;

function unary(name: (typeof saves)[number][0]): (x: Tensor) => Tensor {
  const index = saves.findIndex(([op]) => op === name);
  return (x) => {
    check(isFloat(x.dtype), name, 'a floating type', () => x.toString());
    const y = x.like(name);
    x.device.kernels.unary_forward(y, x, index);
    const saved = saves[index]?.[1] === 'x' ? x : y;
    return record(name, y, [x], [saved], (dy) => {
      const dx = x.like(`${name} dx`);
      x.device.kernels.unary_backward(dx, dy, saved, index);
      return [dx];
    });
  };
}

/** -x */
export const neg = unary('neg');
/** e^x */
export const exp = unary('exp');
/** The natural logarithm. */
export const log = unary('log');
/** The square root; its gradient at 0 is infinite. */
export const sqrt = unary('sqrt');
/** x² */
export const square = unary('square');
/** |x|, with gradient 0 at 0. */
export const abs = unary('abs');
/** 1 / (1 + e^-x), without overflow. */
export const sigmoid = unary('sigmoid');
/** log(1 + e^x), without overflow. */
export const softplus = unary('softplus');
/** max(x, 0), with gradient 0 at 0. */
export const relu = unary('relu');
/** The hyperbolic tangent. */
export const tanh = unary('tanh');

/** y = scale x + shift, with two numbers. */
export function affine(x: Tensor, scale: number, shift = 0): Tensor {
  check(isFloat(x.dtype), 'affine', 'a floating type', () => x.toString());
  const y = x.like('affine');
  x.device.kernels.affine(y, x, scale, shift);
  return record('affine', y, [x], [], (dy) => [affine(dy, scale)]);
}
