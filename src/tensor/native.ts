/** The addon, as it is: numbers in, numbers out. Only this folder uses it. */
import { createRequire } from 'node:module';
import { UserError } from './errors.js';
import { kernelSignatures } from './kernels.js';
import type { HostArray } from './dtype.js';

/** Tensors are handles, lists of tensors a Float64Array of handles. */
export type NativeKernel = (...args: (number | Int32Array | Float64Array)[]) => void;

/** A device's memory and work so far. */
export interface DeviceStatistics {
  /** Bytes in use by tensors and running kernels. */
  live: number;
  /** The maximum of those so far. */
  peak: number;
  /** Bytes kept for reuse. */
  cached: number;
  /** The most bytes the device may hold; 0 means no limit but the machine's. */
  limit: number;
  /** Bytes of the kernel that used the most temporary memory. */
  scratchPeak: number;
  /** Blocks taken from the system. */
  systemAllocations: number;
  /** Calls of kernels. */
  kernelCalls: number;
  /** What these launched on a GPU; 0 on the CPU. */
  launches: number;
  /** Bytes of the machine or the GPU. */
  memoryTotal: number;
  /** Bytes that it could still give out. */
  memoryAvailable: number;
  /** Whether kernels may use instructions that multiply matrices of bfloat16: a GPU's, or AMX. */
  matrixUnits: boolean;
  /** Threads of the CPU that kernels use. */
  threads: number;
  /** What the device is, in words. */
  description: string;
}

interface NativeAddon {
  /** Opens a backend; its kernels by name, without those that it lacks. */
  openDevice: (library: string, name: string) => { index: number; kernels: Record<string, NativeKernel> };
  signatures: () => Record<string, string>;
  cpuLibrary: () => string;
  allocate: (device: number, elements: number, dtype: number) => number;
  release: (handle: number) => void;
  transfer: (handle: number, array: HostArray, toDevice: boolean) => void;
  statistics: (device: number) => DeviceStatistics;
  configure: (
    device: number,
    options: { limit?: number; threads?: number; resetPeak?: true; trim?: true },
  ) => void;
  synchronize: (device: number) => void;
  /** A new recording: its number. */
  record: (device: number) => number;
  /** On: a new section of the recording notes the device's kernel calls from now on. */
  listen: (recording: number, on: boolean) => void;
  /** Takes the memory that replays need; false when there is not as much. */
  plan: (recording: number) => boolean;
  replay: (recording: number, section: number) => void;
  forget: (recording: number) => void;
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

/**
 * From now on `listener` hears of every call of the addon, and of the kernels of devices that are opened later: its name, when it
 * began and when it ended, in milliseconds of `performance.now()`, and its arguments. For measurements; nothing takes it back.
 */
export function observeNative(
  listener: (name: string, start: number, end: number, args: readonly unknown[]) => void,
): void {
  const timed =
    <A extends unknown[], R>(name: string, f: (...args: A) => R) =>
    (...args: A): R => {
      const start = performance.now();
      try {
        return f(...args);
      } finally {
        listener(name, start, performance.now(), args);
      }
    };
  const { openDevice, allocate, release, transfer, statistics, configure, synchronize } = native;
  const { record, listen, plan, replay, forget } = native;
  Object.assign(native, {
    openDevice(...args: Parameters<NativeAddon['openDevice']>) {
      const { index, kernels } = openDevice(...args);
      const entries = Object.entries(kernels).map(([name, run]) => [name, timed(name, run)]);
      return { index, kernels: Object.fromEntries(entries) as typeof kernels };
    },
    allocate: timed('allocate', allocate),
    release: timed('release', release),
    transfer: timed('transfer', transfer),
    statistics: timed('statistics', statistics),
    configure: timed('configure', configure),
    synchronize: timed('synchronize', synchronize),
    record: timed('record', record),
    listen: timed('listen', listen),
    plan: timed('plan', plan),
    replay: timed('replay', replay),
    forget: timed('forget', forget),
  });
}
