/** Errors that turl raises on purpose. */

/** Something the user asked for cannot be done; the message says what was expected, what was found, and where. */
export class UserError extends Error {
  override name = 'UserError';
}

/** An operation got tensors of the wrong shape, type or device. */
export class ShapeError extends UserError {
  override name = 'ShapeError';
  constructor(op: string, expected: string, got: string) {
    super(`${op}: expected ${expected}, got ${got}`);
  }
}

/** The device has no memory for a request. The message names the request, the bytes live, and the largest holders. */
export class OutOfMemoryError extends UserError {
  override name = 'OutOfMemoryError';
}

/**
 * Throws a ShapeError unless `condition` holds; functions are only called when it does not. Where a step passes by, an
 * expectation that has to be put together should be one.
 */
export function check(
  condition: boolean,
  op: string,
  expected: string | (() => string),
  got: () => string,
): asserts condition {
  if (!condition) throw new ShapeError(op, typeof expected === 'string' ? expected : expected(), got());
}
