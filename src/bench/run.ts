// Times the cases on a device: the result is checked against the formula first; then come runs with a warm cache, and
// runs after the caches were swept. The same run measures two yardsticks: copy bandwidth, and the rate of a square matrix product.
// They are rates of this library, not limits of the machine: a Winograd convolution or data in cache can pass them.
import prettyBytes from 'pretty-bytes';
import type { Device } from '../tensor/device.js';
import { scope } from '../tensor/scope.js';
import { empty } from '../tensor/tensor.js';
import { copy, product, type KernelCase } from './cases.js';
import { medianInterval, type Median } from './median.js';

export interface Yardsticks {
  /** Bytes a second, read and written, of a copy that fits no cache. */
  copy: number;
  /** float32 operations a second of the library's own product of 1024 x 1024 matrices: what code reaches, not the data sheet. */
  product: number;
}

export interface Timing {
  kernel: string;
  shape: string;
  /** Milliseconds, caches warm, with the 95 % interval of the median; wide where time ran out. */
  warm: Median;
  /** Median milliseconds after 64 MiB were written elsewhere. */
  cold: number;
  runs: number;
  gflops: number;
  gbytes: number;
  /** The larger of two ratios: rate of operations to the product's, rate of bytes to the copy's. May pass 1. */
  ratio: number;
  /** Largest |result - formula| / max(1, |formula|) of the sampled elements. */
  error: number;
}

export interface Skipped {
  kernel: string;
  shape: string;
  skipped: string;
}

const tolerance = 1e-3;
const [fewest, most] = [6, 200];

/** Milliseconds of one run, the device's work included. */
function once(device: Device, run: () => void): number {
  device.synchronize();
  const start = performance.now();
  run();
  device.synchronize();
  return performance.now() - start;
}

/**
 * As many runs as fit into `seconds`, from 6 to 200. Their number is fixed by the first, untimed runs: stopping when the interval
 * looks narrow would make it narrower than 95 % allows.
 */
function repeated(device: Device, run: () => void, seconds: number): { warm: Median; runs: number } {
  const estimate = Math.min(once(device, run), once(device, run));
  const runs = Math.min(most, Math.max(fewest, Math.floor((1000 * seconds) / estimate)));
  const warm = medianInterval(Array.from({ length: runs }, () => once(device, run)));
  if (!warm) throw new Error(`${runs} runs give no interval`);
  return { warm, runs };
}

export function measureYardsticks(device: Device, seconds: number): Yardsticks {
  const rate = (amount: number, prepare: KernelCase['prepare']) =>
    scopedNumber(() => amount / (repeated(device, prepare(device).run, seconds).warm.median / 1000));
  const [memory, square] = [copy(1 << 25), product(1024, 1024, 1024)];
  return { copy: rate(memory.bytes, memory.prepare), product: rate(square.operations, square.prepare) };
}

/** `f` in a scope of tensors, for results that hold none. */
function scopedNumber<T>(f: () => T): T {
  const found: T[] = [];
  scope(() => {
    found.push(f());
  });
  const [result] = found;
  if (result === undefined) throw new Error('a scope gave nothing');
  return result;
}

/** One case; skipped with the reason where memory does not suffice. Throws where the kernel's result is wrong. */
export function measure(
  device: Device,
  entry: KernelCase,
  yardsticks: Yardsticks,
  seconds: number,
): Timing | Skipped {
  const { kernel, shape, operations, bytes } = entry;
  // The host keeps the inputs too, for the check.
  const [needed, available] = [3 * bytes, device.statistics().memoryAvailable];
  if (device.missingKernels.includes(kernel))
    return { kernel, shape, skipped: `${device.name} has no such kernel` };
  if (needed > available) {
    const [wanted, there] = [needed, available].map((n) => prettyBytes(n, { binary: true }));
    return { kernel, shape, skipped: `needs ${wanted}, ${there} are available` };
  }
  return scopedNumber(() => {
    const { run, output, expected } = entry.prepare(device);
    run();
    const error = worstError(output.toArray(), expected);
    if (!(error <= tolerance))
      throw new Error(
        `${kernel} ${shape}: the result differs from the formula by ${error}, allowed ${tolerance}`,
      );
    const { warm, runs } = repeated(device, run, seconds);
    const swept = empty([1 << 24], { device, label: 'bench sweep' });
    const cold = Array.from({ length: Math.min(5, runs) }, (_, i) => {
      device.kernels.fill(swept, i);
      return once(device, run);
    }).sort((a, b) => a - b);
    const perSecond = 1000 / warm.median;
    const ratios = [(operations * perSecond) / yardsticks.product, (bytes * perSecond) / yardsticks.copy];
    return {
      ...{ kernel, shape, warm, runs, error, cold: cold[cold.length >> 1] ?? NaN },
      gflops: (operations * perSecond) / 1e9,
      gbytes: (bytes * perSecond) / 1e9,
      ratio: Math.max(...ratios),
    };
  });
}

/** Eight elements spread over the result, its last one among them. */
function worstError(actual: ArrayLike<number>, expected: (i: number) => number): number {
  let worst = 0;
  for (let sample = 1; sample <= 8; sample++) {
    const i = Math.ceil((sample * actual.length) / 8) - 1;
    const e = expected(i);
    const error = Math.abs((actual[i] ?? NaN) - e) / Math.max(1, Math.abs(e));
    if (!(error <= worst)) worst = error;
    if (Number.isNaN(worst)) return NaN;
  }
  return worst;
}
