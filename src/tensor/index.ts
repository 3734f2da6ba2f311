export * from './dtype.js';
export * from './errors.js';
export * from './shape.js';
export * from './scope.js';
export * from './device.js';
export type { DeviceStatistics } from './native.js';
export * from './recording.js';
export * from './tensor.js';
