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
