/** What the tests share: devices present, random tensors, comparison. */
import { device, whyUnavailable, type Device } from './tensor/device.js';
import { tensor, type Tensor, type TensorOptions } from './tensor/tensor.js';
import { sizeOf, type Shape } from './tensor/shape.js';

/** The devices that run here; TURL_TEST_DEVICES="cpu,emulated" chooses. An absent one is reported once as skipped. */
export const devices: readonly Device[] = (process.env['TURL_TEST_DEVICES'] ?? 'cpu,emulated,cuda')
  .split(',')
  .flatMap((name) => {
    if (name !== 'cpu' && name !== 'emulated' && name !== 'cuda') throw new Error(`no device ${name}`);
    return whyUnavailable(name) === undefined ? [device(name)] : [];
  });

/** Repeatable pseudo-random numbers in [-1, 1) (mulberry32). */
export function randomValues(n: number, seed = 1): Float64Array {
  let state = seed * 0x9e3779b9;
  return Float64Array.from({ length: n }, () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 31 - 1;
  });
}

/** A tensor of pseudo-random numbers in [-1, 1). */
export function randomTensor(shape: Shape, seed = 1, options: TensorOptions = {}): Tensor {
  return tensor(randomValues(sizeOf(shape), seed), shape, { dtype: 'float32', ...options });
}

/** A float64 leaf on cpu for gradient checks. */
export function leaf(shape: Shape, seed = 1): Tensor {
  const t = randomTensor(shape, seed, { dtype: 'float64' });
  t.requiresGrad = true;
  return t;
}

/** Throws unless |actual - expected| <= tolerance * max(1, |expected|) everywhere; NaN equals NaN only. */
export function assertClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
  what = '',
): void {
  if (actual.length !== expected.length)
    throw new Error(`${what}: ${expected.length} values expected, got ${actual.length}`);
  for (let i = 0; i < actual.length; i++) {
    const a = actual[i] as number;
    const e = expected[i] as number;
    const same = Object.is(a, e) || Math.abs(a - e) <= tolerance * Math.max(1, Math.abs(e));
    if (!same) throw new Error(`${what}: element ${i} is ${a}, expected ${e} within ${tolerance}`);
  }
}

/** Whether two results have the same bits. */
export const sameBits = (a: Tensor, b: Tensor): boolean => {
  const [left, right] = [a.toBits(), b.toBits()];
  return left.length === right.length && left.every((bits, i) => bits === right[i]);
};
