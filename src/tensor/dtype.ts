/** Element types; the order is that of `DType` in native/types.h. */
export const dtypes = ['float32', 'bfloat16', 'float64', 'int32', 'uint8'] as const;

/** An element type. */
export type DType = (typeof dtypes)[number];
/** The types of what can be differentiated. */
export type FloatType = 'float32' | 'bfloat16' | 'float64';
/** What the host holds elements in; 16-bit ones are the bits of bfloat16. */
export type HostArray = Float32Array | Float64Array | Int32Array | Uint8Array | Uint16Array;

/** Bytes of an element. */
export const bytesOf: Readonly<Record<DType, number>> = {
  float32: 4,
  bfloat16: 2,
  float64: 8,
  int32: 4,
  uint8: 1,
};

/** Whether it is a floating type. */
export function isFloat(dtype: DType): dtype is FloatType {
  return dtype === 'float32' || dtype === 'bfloat16' || dtype === 'float64';
}

/** The type in which parameters and sums over `dtype` are kept: float32 for float32 and bfloat16, float64 for float64. */
export function accumulator(dtype: DType): 'float32' | 'float64' {
  return dtype === 'float64' ? 'float64' : 'float32';
}

/** A host array of `length` elements with the bytes of `dtype`; a bfloat16 is its 16 bits. */
export function hostArray(dtype: DType, length: number): HostArray {
  switch (dtype) {
    case 'float32':
      return new Float32Array(length);
    case 'float64':
      return new Float64Array(length);
    case 'bfloat16':
      return new Uint16Array(length);
    case 'int32':
      return new Int32Array(length);
    case 'uint8':
      return new Uint8Array(length);
  }
}

/** The array itself, or a copy where it lies in shared memory: Node-API knows none. */
export function unshared(array: HostArray): HostArray {
  return array.buffer instanceof ArrayBuffer ? array : array.slice();
}

/**
 * The values as a host array of `dtype` (no bfloat16): themselves, not copied, where they are one already, in memory that the
 * addon can take.
 */
export function asHostArray(
  dtype: Exclude<DType, 'bfloat16'>,
  values: ArrayLike<number> | HostArray,
): HostArray {
  const array = hostArray(dtype, 0);
  if (ArrayBuffer.isView(values) && values.constructor === array.constructor) return unshared(values);
  const copy = hostArray(dtype, values.length);
  copy.set(values);
  return copy;
}
