// Times the cases on a device. Each result is checked against its formula first; then come runs with a warm cache, and runs after the
// caches were swept. The ceilings are measured in the same run: copy bandwidth, multiply-adds in registers, matrix instructions.
import prettyBytes from 'pretty-bytes';
import type { Device } from '../tensor/device.js';
import { scope } from '../tensor/scope.js';
import { empty } from '../tensor/tensor.js';
import { at, type KernelCase, type Result, type Sizes } from './case.js';
import { copy } from './cases/memory.js';
import { matrixProducts, multiplyAdds } from './cases/rate.js';
import { fewest, medianInterval, quantile, type Median } from './median.js';

export interface Ceilings {
  /** Bytes a second, read and written, of a copy that fits no cache. */
  readonly copy: number;
  /** float32 additions and multiplications a second, operands in registers. */
  readonly multiplyAdd: number;
  /** The same of bfloat16 products by matrix instructions; null where there are none. */
  readonly matrix: number | null;
}

export interface Timing {
  kernel: string;
  shape: string;
  /** Milliseconds, caches warm, with the 95 % interval of the median; wide where time ran out. */
  warm: Median;
  /** Tenth and ninetieth percentile of the same. */
  quantiles: readonly [number, number];
  /** Median milliseconds after 64 MiB were written elsewhere. */
  cold: number;
  /** The runs behind `warm`, in order, in milliseconds. */
  times: readonly number[];
  gflops: number;
  gbytes: number;
  /** What limits the case most, by the ceilings. */
  bound: 'memory' | 'multiply-add' | 'matrix';
  /** The time that the ceiling allows, divided by the time taken: the share of the roofline. Data in a cache can pass 1. */
  share: number;
  /** Operations for each byte that must be moved. */
  intensity: number;
  /** Largest |result - formula| of the sampled elements, divided by the largest |formula| of them. */
  error: number;
}

export interface Skipped {
  kernel: string;
  shape: string;
  skipped: string;
}

const most = 200;

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
function repeated(device: Device, run: () => void, seconds: number): { warm: Median; times: number[] } {
  const estimate = Math.min(once(device, run), once(device, run));
  const runs = Math.min(most, Math.max(fewest, Math.floor((1000 * seconds) / estimate)));
  const times = Array.from({ length: runs }, () => once(device, run));
  const warm = medianInterval(times);
  if (!warm) throw new Error(`${runs} runs give no interval`);
  return { warm, times };
}

/** From the fastest of their runs: other work on the machine does not lower its limits. */
export function measureCeilings(device: Device, { elements, copied }: Sizes, seconds: number): Ceilings {
  const rate = (amount: number, entry: KernelCase) =>
    scoped(() => {
      const { times } = repeated(device, entry.prepare(device).run, Math.max(0.5, seconds));
      return amount / (Math.min(...times) / 1000);
    });
  // The emulated device's figures mean nothing, and it would take long.
  const memory = copy(device.name === 'emulated' ? 2 * elements : copied);
  const arithmetic = multiplyAdds(elements / 4, device.name === 'emulated' ? 64 : 4096);
  // Enough work that a launch of some microseconds does not show; the emulated device would take minutes.
  const matrix = matrixProducts(elements / 256, device.name === 'emulated' ? 4 : 4096);
  return {
    copy: rate(memory.bytes, memory),
    multiplyAdd: rate(arithmetic.operations, arithmetic),
    matrix: device.statistics().matrixUnits ? rate(matrix.operations, matrix) : null,
  };
}

/** `f` in a scope of tensors, for results that hold none. */
function scoped<T>(f: () => T): T {
  const found: T[] = [];
  scope(() => {
    found.push(f());
  });
  const [result] = found;
  if (result === undefined) throw new Error('a scope gave nothing');
  return result;
}

/** Why the case cannot run here, if so. */
function whySkipped(device: Device, { kernel, bytes }: KernelCase): string | undefined {
  if (device.missingKernels.includes(kernel)) return `${device.name} has no such kernel`;
  // The host keeps the inputs too, for the check.
  const [needed, available] = [3 * bytes, device.statistics().memoryAvailable];
  if (needed <= available) return undefined;
  const [wanted, there] = [needed, available].map((n) => prettyBytes(n, { binary: true }));
  return `needs ${wanted}, ${there} are available`;
}

/** Runs a case once and compares it with its formula. @throws Error where it is wrong */
export const checked = (device: Device, entry: KernelCase): number =>
  scoped(() => {
    const { run, results } = entry.prepare(device);
    run();
    return worstOf(entry, results);
  });

/** The largest error of the results, or an error where one is wrong. */
function worstOf({ kernel, shape }: KernelCase, results: readonly Result[]): number {
  // float32 sums of up to a million terms; in bfloat16 operands of products and results are rounded, 2^-9 of each.
  const allowed = shape.includes('bfloat16') ? 2e-2 : 1e-3;
  const worst = Math.max(...results.map(errorOf));
  if (worst <= allowed) return worst;
  const errors = results.map((result) => errorOf(result).toPrecision(2)).join(', ');
  throw new Error(`${kernel} ${shape}: results differ from the formula by ${errors}, allowed ${allowed}`);
}

/** Of elements scattered over the result, its last one among them. */
function errorOf({ output, expected, samples = 8 }: Result): number {
  const actual = output.toArray();
  const count = Math.min(samples, actual.length);
  const places = Array.from(
    { length: count },
    (_, i) => (actual.length - 1 + i * 40_503 * 65_537) % actual.length,
  );
  const formula = places.map(expected);
  const scale = Math.max(...formula.map(Math.abs)) || 1;
  return Math.max(...places.map((i, n) => Math.abs(at(actual, i) - at(formula, n)))) / scale;
}

/** One case; skipped with the reason where memory does not suffice. Throws where the kernel's result is wrong. */
export function measure(
  device: Device,
  entry: KernelCase,
  ceilings: Ceilings,
  seconds: number,
): Timing | Skipped {
  const { kernel, shape } = entry;
  const skipped = whySkipped(device, entry);
  if (skipped !== undefined) return { kernel, shape, skipped };
  return scoped(() => {
    const { run, results } = entry.prepare(device);
    run();
    const error = worstOf(entry, results);
    const { warm, times } = repeated(device, run, seconds);
    const swept = empty([1 << 24], { device, label: 'bench sweep' });
    const cold = Array.from({ length: Math.min(5, times.length) }, (_, i) => {
      device.kernels.fill(swept, i);
      return once(device, run);
    });
    const quantiles = [quantile(times, 0.1), quantile(times, 0.9)] as const;
    return {
      kernel,
      shape,
      warm,
      quantiles,
      cold: quantile(cold, 0.5),
      times,
      error,
      ...ratesOf(entry, warm, ceilings),
    };
  });
}

/** Rates, and what the roofline allows. */
function ratesOf({ operations, bytes, matrix }: KernelCase, { median }: Median, ceilings: Ceilings) {
  const seconds = median / 1000;
  const byMatrix = matrix === true && ceilings.matrix !== null;
  const arithmetic = operations / (byMatrix ? (ceilings.matrix ?? NaN) : ceilings.multiplyAdd);
  const memory = bytes / ceilings.copy;
  const bound: Timing['bound'] = memory >= arithmetic ? 'memory' : byMatrix ? 'matrix' : 'multiply-add';
  return {
    gflops: operations / seconds / 1e9,
    gbytes: bytes / seconds / 1e9,
    bound,
    share: Math.max(memory, arithmetic) / seconds,
    intensity: operations / bytes,
  };
}
