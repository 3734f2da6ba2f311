import prettyBytes from 'pretty-bytes';
import { UserError } from '../tensor/errors.js';

/**
 * Zeros that threads share.
 * @param what they are for, and how to need fewer: `5 batches (data.prefetch)`
 * @throws UserError when the system has no memory for them
 */
export function sharedMemory(bytes: number, what: string): SharedArrayBuffer {
  try {
    return new SharedArrayBuffer(bytes);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new UserError(`expected memory for ${what}, ${prettyBytes(bytes, { binary: true })}, found less`);
  }
}

/** The same plain data with its arrays of numbers in memory that threads share: each worker that it is sent to would have a copy of its own. */
export function shareArrays<T>(data: T): T {
  if (data instanceof Int32Array || data instanceof Float64Array) {
    if (data.buffer instanceof SharedArrayBuffer) return data;
    const memory = sharedMemory(data.byteLength, `${data.length} images`);
    const shared = data instanceof Int32Array ? new Int32Array(memory) : new Float64Array(memory);
    shared.set(data);
    return shared as T & typeof shared;
  }
  if (Object.prototype.toString.call(data) !== '[object Object]') return data;
  return Object.fromEntries(
    Object.entries(data as object).map(([key, value]) => [key, shareArrays(value)]),
  ) as T;
}
