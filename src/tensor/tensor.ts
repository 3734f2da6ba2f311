import { asHostArray, hostArray, isFloat, unshared, type DType, type HostArray } from './dtype.js';
import { device as deviceOf, type Device, type DeviceName, type Storage } from './device.js';
import { check } from './errors.js';
import { formatShape, isShape, sizeOf, type Shape } from './shape.js';
import { onScopeCreate } from './scope.js';
import type { TapeNode } from '../autograd/tape.js';

/**
 * A handle of device memory with a shape and a type. Memory is explicit: a tensor made inside `scope()` is freed at
 * its end unless it leaves it; one made outside lives until `dispose()`.
 */
export class Tensor {
  /** The memory, which views share. */
  readonly storage: Storage;
  /** Row-major: the last dimension varies fastest. */
  readonly shape: Shape;
  /** Whether a tape computes this tensor's gradient: true of parameters, and of what a tape holds that is computed from them. */
  requiresGrad = false;
  /** The gradient, of the same shape, after `Tape.backward`; only leaves (parameters) keep one. */
  grad: Tensor | undefined;
  /** The operation that made it, while a tape holds that. */
  node: TapeNode | undefined;
  /** Mean and variance [2, C] of each channel (the last axis), if the operation that made it left them; freed with it. */
  statistics: Tensor | undefined;
  #disposed = false;

  constructor(storage: Storage, shape: Shape) {
    check(
      sizeOf(shape) === storage.elements && isShape(shape),
      'Tensor',
      () => `a shape of ${storage.elements} elements`,
      () => formatShape(shape),
    );
    storage.retain();
    this.storage = storage;
    this.shape = shape;
    onScopeCreate(this);
  }

  /** The type of the elements. */
  get dtype(): DType {
    return this.storage.dtype;
  }
  /** Where the elements are. */
  get device(): Device {
    return this.storage.device;
  }
  /** The number of elements. */
  get size(): number {
    return this.storage.elements;
  }
  /** The number of dimensions. */
  get rank(): number {
    return this.shape.length;
  }
  /** The size of a dimension; negative ones count from the end. */
  dim(axis: number): number {
    const n = this.shape.at(axis);
    check(
      n !== undefined,
      'dim',
      () => `an axis of ${formatShape(this.shape)}`,
      () => String(axis),
    );
    return n;
  }
  /** Whether `dispose` was called, by hand or by a scope: the tensor cannot be used then. */
  get disposed(): boolean {
    return this.#disposed;
  }
  /** "float32 [2, 3]", for messages. */
  toString(): string {
    return `${this.dtype} ${formatShape(this.shape)}`;
  }

  /** The same memory under another shape of the same size, outside of any tape (`reshape` is the differentiable one). */
  view(shape: Shape): Tensor {
    return new Tensor(this.storage, shape);
  }

  /** A new tensor of this one's shape, type and device, with undefined contents. */
  like(label: string, dtype: DType = this.dtype): Tensor {
    return empty(this.shape, { dtype, device: this.device, label });
  }

  /** Lets go of the memory; it is freed when no view and no tape holds it. Doing so twice is harmless. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.statistics?.dispose();
    this.storage.release();
  }

  /** The elements as a typed array; bfloat16 becomes float32. Waits for the device. */
  toArray(): Float32Array | Float64Array | Int32Array | Uint8Array {
    if (this.dtype === 'bfloat16') {
      const wide = this.like('toArray', 'float32');
      this.device.kernels.cast(wide, this);
      const array = wide.toArray();
      wide.dispose();
      return array;
    }
    const array = hostArray(this.dtype, this.size) as Float32Array | Float64Array | Int32Array | Uint8Array;
    if (this.size > 0) this.device.read(this.storage, array);
    return array;
  }

  /** The bytes as they are; a bfloat16 is its 16 bits. */
  toBits(): HostArray {
    const array = hostArray(this.dtype, this.size);
    if (this.size > 0) this.device.read(this.storage, array);
    return array;
  }

  /** The only element. */
  item(): number {
    check(this.size === 1, 'item', 'one element', () => this.toString());
    return this.toArray()[0] as number;
  }

  /** Overwrites the contents with a typed array of the same type and length. */
  set(array: HostArray): void {
    check(
      array.length === this.size && array.constructor === hostArray(this.dtype, 0).constructor,
      'set',
      `${this.size} elements of ${this.dtype}`,
      () => `${array.length} of ${array.constructor.name}`,
    );
    if (this.size > 0) this.device.write(this.storage, unshared(array));
    this.statistics?.dispose();
    this.statistics = undefined;
  }

  /** The same values in another element type. Not differentiable; `cast` of autograd is. */
  to(dtype: DType): Tensor {
    const y = this.like('cast', dtype);
    this.device.kernels.cast(y, this);
    return y;
  }

  /** A copy in its own memory. */
  clone(): Tensor {
    const y = this.like('clone');
    this.device.kernels.copy(y, this);
    return y;
  }
}

/** Of what a new tensor is made. */
export interface TensorOptions {
  /** float32 when left out. */
  dtype?: DType;
  /** cpu when left out. */
  device?: Device | DeviceName;
  /** What holds the memory, for messages. */
  label?: string;
}

/** A tensor with undefined contents. */
export function empty(shape: Shape, options: TensorOptions = {}): Tensor {
  const { dtype = 'float32', device = 'cpu', label = 'tensor' } = options;
  check(isShape(shape), label, 'a shape of whole numbers', () => formatShape(shape));
  const owner = typeof device === 'string' ? deviceOf(device) : device;
  return new Tensor(owner.allocate(sizeOf(shape), dtype, label), [...shape]);
}

/** A tensor filled with one value. */
export function full(shape: Shape, value: number, options: TensorOptions = {}): Tensor {
  const y = empty(shape, { label: 'full', ...options });
  y.device.kernels.fill(y, value);
  return y;
}

/** A tensor of zeros. */
export function zeros(shape: Shape, options: TensorOptions = {}): Tensor {
  return full(shape, 0, { label: 'zeros', ...options });
}

/** A tensor of ones. */
export function ones(shape: Shape, options: TensorOptions = {}): Tensor {
  return full(shape, 1, { label: 'ones', ...options });
}

/**
 * A tensor of given values. `dtype` defaults to the typed array's own (other arrays: float32); bfloat16 is rounded from
 * float32.
 */
export function tensor(
  values: ArrayLike<number> | HostArray,
  shape: Shape = [values.length],
  options: TensorOptions = {},
): Tensor {
  const own: DType =
    values instanceof Float64Array
      ? 'float64'
      : values instanceof Int32Array
        ? 'int32'
        : values instanceof Uint8Array
          ? 'uint8'
          : 'float32';
  const dtype = options.dtype ?? own;
  const host = dtype === 'bfloat16' ? 'float32' : dtype;
  check(values.length === sizeOf(shape), 'tensor', `${sizeOf(shape)} values for ${formatShape(shape)}`, () =>
    String(values.length),
  );
  const y = empty(shape, { label: 'tensor', ...options, dtype: host });
  y.set(asHostArray(host, values));
  if (host === dtype) return y;
  const rounded = y.to(dtype);
  y.dispose();
  return rounded;
}

/** Marks a floating tensor as a leaf whose gradient is wanted. */
export function parameter(t: Tensor): Tensor {
  check(isFloat(t.dtype), 'parameter', 'a floating type', () => t.dtype);
  t.requiresGrad = true;
  return t;
}
