/** Gradients against finite differences in double precision. */
import { check } from '../tensor/errors.js';
import { scope } from '../tensor/scope.js';
import { tensor, type Tensor } from '../tensor/tensor.js';
import { Tape } from './tape.js';

/** How finely gradients are compared. */
export interface GradientCheckOptions {
  /** Half the difference of the two points. Central differences err by about step² f''' / 6 + 1e-16 |f| / step. 1e-5 when left out. */
  step?: number;
  /** Largest |analytic - numeric| allowed, relative to max(1, |numeric|); 1e-6 when left out. */
  tolerance?: number;
}

/**
 * Compares the gradients of sum(f(inputs) * r), r a fixed pseudo-random weight for each output, with central differences, for
 * every element of every input with `requiresGrad`, whose `grad` is freed. Those are float64 on cpu. Throws an Error naming the first
 * element beyond the tolerance.
 * @returns the largest error found.
 */
export function checkGradients(
  f: (...inputs: Tensor[]) => Tensor,
  inputs: readonly Tensor[],
  { step = 1e-5, tolerance = 1e-6 }: GradientCheckOptions = {},
): number {
  const weightOf = (i: number) => Math.sin(i * 12.9898 + 1) + 0.5;
  const value = () =>
    scope(() => {
      let total = 0;
      f(...inputs)
        .toArray()
        .forEach((y, i) => (total += y * weightOf(i)));
      return total;
    });
  for (const input of inputs) {
    check(
      !input.requiresGrad || input.dtype === 'float64',
      'checkGradients',
      'float64 where a gradient is wanted',
      () => input.toString(),
    );
    input.grad?.dispose();
    input.grad = undefined;
  }
  scope(() => {
    const tape = new Tape();
    const y = tape.record(() => f(...inputs));
    const weights = Float64Array.from({ length: y.size }, (_, i) => weightOf(i));
    tape.backward(y, tensor(weights, y.shape, { dtype: y.dtype, device: y.device }));
  });
  let worst = 0;
  inputs.forEach((input, index) => {
    if (!input.requiresGrad) return;
    const analytic = input.grad?.toArray() ?? new Float64Array(input.size);
    const values = input.toArray() as Float64Array;
    values.forEach((original, i) => {
      const at = (v: number) => {
        values[i] = v;
        input.set(values);
        return value();
      };
      const numeric = (at(original + step) - at(original - step)) / (2 * step);
      at(original);
      const error = Math.abs(numeric - (analytic[i] as number)) / Math.max(1, Math.abs(numeric));
      if (!(error <= tolerance))
        throw new Error(
          `gradient of input ${index} at element ${i}: the op says ${analytic[i]}, differences say ${numeric} ` +
            `(error ${error.toExponential(1)}, tolerance ${tolerance.toExponential(1)})`,
        );
      worst = Math.max(worst, error);
    });
    input.grad?.dispose();
    input.grad = undefined;
  });
  return worst;
}
