// What a case of `turl bench` is: a kernel at a shape, with a plain double-precision formula for single elements of each result.
import type { Device } from '../tensor/device.js';
import { bytesOf, isFloat, type DType } from '../tensor/dtype.js';
import type { KernelName } from '../tensor/kernels.js';
import { Draws } from '../tensor/philox.js';
import { sizeOf, type Shape } from '../tensor/shape.js';
import { full, tensor, type Tensor } from '../tensor/tensor.js';

export interface KernelCase {
  readonly kernel: KernelName;
  readonly shape: string;
  /** Additions and multiplications that the plain formula needs; 0 where nothing is computed. */
  readonly operations: number;
  /** Bytes of every input read once and every output written once: the least that can be moved. */
  readonly bytes: number;
  /** Whether the operations are products of bfloat16 matrices, which matrix instructions can do. */
  readonly matrix?: boolean;
  /** Makes the tensors inside the caller's scope. */
  prepare(device: Device): Prepared;
}

export interface Prepared {
  readonly run: () => void;
  readonly results: readonly Result[];
}

/** An output, and its element `i` after the first run by the formula; an optimiser's later runs go on from there. */
export interface Result {
  readonly output: Tensor;
  readonly expected: (i: number) => number;
  /** Elements to check, where the formula is expensive; 8 otherwise. */
  readonly samples?: number;
}

/** How large the cases are. */
export interface Sizes {
  /** Images in a batch. */
  readonly batch: number;
  /** Elements of arrays that have no shape of their own, a power of 4. */
  readonly elements: number;
  /** Elements of the copy that measures the bandwidth: more than any cache holds, where the figure counts. */
  readonly copied: number;
  /** Features that the embedding layer reads: 512 channels of 7 x 7 pixels in IResNet. */
  readonly features: number;
  /** N of the margin softmax; a list. */
  readonly identities: readonly number[];
  /** Channels of convolutions are divided by this. */
  readonly narrow: number;
  /** Layers beyond the first of a list are taken too. */
  readonly all: boolean;
}

export const sizes = {
  full: {
    batch: 64,
    elements: 1 << 24,
    copied: 1 << 25,
    features: 25_088,
    identities: [10_000, 85_000, 1_000_000],
    narrow: 1,
    all: true,
  },
  quick: {
    batch: 4,
    elements: 1 << 20,
    copied: 1 << 25,
    features: 25_088,
    identities: [10_000],
    narrow: 1,
    all: false,
  },
  /** For tests: every formula, nothing to be timed. */
  tiny: {
    batch: 2,
    elements: 1 << 12,
    copied: 1 << 13,
    features: 392,
    identities: [100],
    narrow: 8,
    all: false,
  },
} as const satisfies Record<string, Sizes>;

/** The items of a list that these sizes take. */
export const some = <T>({ all }: Sizes, items: readonly T[], first = 1): readonly T[] =>
  all ? items : items.slice(0, first);

export const at = (values: ArrayLike<number>, i: number): number => values[i] ?? NaN;

/** The sum of f(i) over begin <= i < end. */
export function sumOver(begin: number, end: number, f: (i: number) => number): number {
  let total = 0;
  for (let i = begin; i < end; i++) total += f(i);
  return total;
}

export const bytesFor = (dtype: DType, elements: number): number => bytesOf[dtype] * elements;

/** What a shape's name ends with: nothing for float32. */
export const suffix = (dtype: DType): string => (dtype === 'float32' ? '' : ` ${dtype}`);

// A block of a prime number of draws is repeated, so that large tensors are made fast and rows still differ.
const block = (() => {
  const draws = new Draws(1, 0, 0, 0);
  return Float32Array.from({ length: 65_521 }, () => draws.uniform(-1, 1));
})();

export interface Operand {
  readonly t: Tensor;
  /** What the device has: rounded in bfloat16. */
  readonly values: Float32Array;
}

export interface OperandOptions {
  dtype?: DType;
  /** From a draw in [-1, 1) to a value. */
  map?: (draw: number) => number;
}

/** The `offset`-th operand of a case, of repeatable draws. */
export function random(device: Device, shape: Shape, offset: number, options: OperandOptions = {}): Operand {
  const { dtype = 'float32', map } = options;
  const values = new Float32Array(sizeOf(shape));
  for (let i = 0; i < values.length; i++) values[i] = at(block, (i + 7919 * offset) % block.length);
  const mapped = map ? values.map(map) : values;
  const t = tensor(mapped, shape, { device, dtype, label: 'bench' });
  return { t, values: dtype === 'bfloat16' ? Float32Array.from(t.toArray()) : mapped };
}

/** For a kernel to write: filled with what no kernel gives, so that one that writes nothing is found out. */
export const output = (device: Device, shape: Shape, dtype: DType = 'float32'): Tensor =>
  full(shape, isFloat(dtype) ? NaN : -1, { device, dtype, label: 'bench' });
