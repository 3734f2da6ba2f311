export {
  accumulator,
  bytesOf,
  dtypes,
  isFloat,
  type DType,
  type FloatType,
  type HostArray,
} from './dtype.js';
export { check, OutOfMemoryError, ShapeError, UserError } from './errors.js';
export { broadcastShape, formatShape, sameShape, sizeOf, type Shape } from './shape.js';
export { keep, scope } from './scope.js';
export * from './device.js';
export type { DeviceStatistics } from './native.js';
export * from './recording.js';
export * from './tensor.js';
