/** The addon, as it is: numbers in, numbers out. Only this folder uses it. */
import { createRequire } from 'node:module';
import { UserError } from './errors.js';
import { kernelSignatures } from './kernels.js';
import type { HostArray } from './dtype.js';

/** Tensors are handles, lists of tensors a Float64Array of handles. */
export type NativeKernel = (...args: (number | Int32Array | Float64Array)[]) => void;

export interface DeviceStatistics {
  /** Bytes in use by tensors and running kernels, their maximum so far, and bytes kept for reuse. */
  live: number;
  peak: number;
  cached: number;
  /** The most bytes the device may hold; 0 means no limit but the machine's. */
  limit: number;
  /** Bytes of the kernel that used the most temporary memory. */
  scratchPeak: number;
  /** Blocks taken from the system, and kernel calls, so far. */
  systemAllocations: number;
  launches: number;
  memoryTotal: number;
  memoryAvailable: number;
  threads: number;
  description: string;
}

interface NativeAddon {
  /** Opens a backend; its kernels by name, without those that it lacks. */
  openDevice(library: string, name: string): { index: number; kernels: Record<string, NativeKernel> };
  signatures(): Record<string, string>;
  cpuLibrary(): string;
  allocate(device: number, elements: number, dtype: number): number;
  release(handle: number): void;
  transfer(handle: number, array: HostArray, toDevice: boolean): void;
  statistics(device: number): DeviceStatistics;
  configure(
    device: number,
    options: { limit?: number; threads?: number; resetPeak?: true; trim?: true },
  ): void;
  synchronize(device: number): void;
}

function open(): NativeAddon {
  const require = createRequire(import.meta.url);
  const file = '../../build/Release/turl.node';
  let addon: NativeAddon;
  try {
    addon = require(file) as NativeAddon;
  } catch (error) {
    const reason = error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error);
    throw new UserError(`the native addon could not be opened (${reason}); build it with: npm install`);
  }
  const built = addon.signatures();
  const expected: Record<string, string> = kernelSignatures;
  for (const name of new Set([...Object.keys(built), ...Object.keys(expected)]))
    if (built[name] !== expected[name])
      throw new UserError(
        `kernel ${name}: src/tensor/kernels.ts says ${expected[name] ?? 'nothing'}, ` +
          `the addon was built with ${built[name] ?? 'nothing'}; rebuild with: npm run build`,
      );
  return addon;
}

export const native = open();
