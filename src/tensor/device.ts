import prettyBytes from 'pretty-bytes';
import { bytesOf, dtypes, type DType, type HostArray } from './dtype.js';
import { OutOfMemoryError, UserError } from './errors.js';
import { kernelSignatures, type Kernels } from './kernels.js';
import { native, type DeviceStatistics, type NativeKernel } from './native.js';
import { HostNumber, type Recording } from './recording.js';
import type { Tensor } from './tensor.js';

/** All devices that there may be. */
export const deviceNames = ['cpu', 'cuda', 'emulated'] as const;
/** How a device is called. */
export type DeviceName = (typeof deviceNames)[number];

const binary = (bytes: number) => prettyBytes(bytes, { binary: true });

/** Native memory of a tensor and its views, which count as references; freed when the last of them lets go. */
export class Storage {
  #handle: number;
  /** The recording that notes its birth. */
  readonly recording: Recording | undefined;
  #references = 0;
  constructor(
    readonly device: Device,
    readonly elements: number,
    readonly dtype: DType,
    /** What asked for it, for the out-of-memory message and the leak check. */
    readonly label: string,
    handle: number,
  ) {
    this.#handle = handle;
    this.recording = device.recording;
  }

  /** Its number in the addon. @throws Error once it is freed */
  get handle(): number {
    if (this.#handle === 0) throw new Error(`a tensor of ${this.label} was used after it was freed`);
    return this.#handle;
  }
  /** Whether its memory was given back. */
  get freed(): boolean {
    return this.#handle === 0;
  }
  /** Whether more than one tensor, view or tape holds it. */
  get shared(): boolean {
    return this.#references > 1;
  }
  /** Its size. */
  get bytes(): number {
    return this.elements * bytesOf[this.dtype];
  }
  /** One more tensor, view or tape holds it. */
  retain(): void {
    if (this.freed) throw new Error(`a tensor of ${this.label} was retained after it was freed`);
    this.#references++;
  }
  /** One less holds it; the last one frees it. */
  release(): void {
    if (--this.#references > 0) return;
    native.release(this.handle);
    this.#handle = 0;
    this.device.storages.delete(this);
  }
}

/** What a kernel may be given; undefined where an operand may be left out. */
export type KernelArgument = Tensor | undefined | readonly Tensor[] | number | HostNumber | Int32Array;

function nativeArgument(argument: KernelArgument): number | Int32Array | Float64Array {
  if (typeof argument === 'number') return argument;
  if (argument === undefined) return 0;
  if (argument instanceof Int32Array) return argument;
  if (argument instanceof HostNumber) return argument.place;
  return 'storage' in argument
    ? argument.storage.handle
    : Float64Array.from(argument, ({ storage }) => storage.handle);
}

/**
 * Memory and kernels of `cpu`, `cuda` or `emulated` (the CUDA kernels run on the CPU). One is opened once per process, by `device`,
 * when it is first asked for.
 */
export class Device {
  /** The kernels by name, with the signatures of native/kernels.h. */
  readonly kernels: Kernels;
  /** Kernels of the table that this device has no implementation of; calling one is an error. */
  readonly missingKernels: readonly string[];
  /** Everything live, for messages about memory. */
  readonly storages = new Set<Storage>();
  /** The recording that notes its kernel calls now. */
  recording: Recording | undefined;
  /** Its number in the addon. */
  readonly index: number;

  constructor(readonly name: DeviceName) {
    let opened;
    try {
      opened = native.openDevice(name === 'cpu' ? native.cpuLibrary() : `turl_${name}`, name);
    } catch (error) {
      throw new UserError(
        `device ${name} cannot be used here: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
    this.index = opened.index;
    const names = Object.keys(kernelSignatures);
    this.kernels = Object.fromEntries(
      names.map((kernel) => [kernel, this.#launcher(opened.kernels[kernel] ?? this.#missing(kernel))]),
    ) as unknown as Kernels;
    this.missingKernels = names.filter((kernel) => !opened.kernels[kernel]);
  }

  #missing(kernel: string): NativeKernel {
    return () => {
      const folder = this.name === 'cpu' ? 'cpu' : 'cuda';
      throw new UserError(`${kernel}: device ${this.name} has no such kernel; native/${folder} lacks it`);
    };
  }

  /** Kernel arguments cross as handles and numbers. */
  #launcher(run: NativeKernel) {
    return (...args: KernelArgument[]): void => {
      const values = args.map(nativeArgument);
      this.explained(() => {
        run(...values);
      });
      this.recording?.note(args);
    };
  }

  /** Runs native calls; lack of memory is explained. */
  explained(run: () => void): void {
    try {
      run();
    } catch (error) {
      if (
        error instanceof Error &&
        'code' in error &&
        error.code === 'TURL_OUT_OF_MEMORY' &&
        'bytes' in error
      )
        throw this.#outOfMemory(
          `temporary memory of ${error.message.split(':')[0] ?? ''}`,
          Number(error.bytes),
        );
      throw error;
    }
  }

  /** Memory for a tensor, with undefined contents. @throws OutOfMemoryError; UserError for float64 elsewhere than on cpu */
  allocate(elements: number, dtype: DType, label: string): Storage {
    if (dtype === 'float64' && this.name !== 'cpu')
      throw new UserError(`${label}: float64 tensors exist on cpu only, not on ${this.name}`);
    if (!dtypes.includes(dtype))
      throw new UserError(`${label}: expected a type of ${dtypes.join(', ')}, got ${String(dtype)}`);
    const bytes = elements * bytesOf[dtype];
    // No address has more than 47 bits, and the addon's numbers no more than 63.
    const handle = bytes < 2 ** 47 ? native.allocate(this.index, elements, dtypes.indexOf(dtype)) : 0;
    if (handle === 0) throw this.#outOfMemory(label, bytes);
    const storage = new Storage(this, elements, dtype, label, handle);
    this.storages.add(storage);
    return storage;
  }

  /** Copies from the host: as many elements as the storage has. */
  write(storage: Storage, array: HostArray): void {
    native.transfer(storage.handle, array, true);
  }

  /** Copies to the host, after all work launched before. */
  read(storage: Storage, array: HostArray): void {
    native.transfer(storage.handle, array, false);
  }

  /** Waits for all work launched so far. */
  synchronize(): void {
    native.synchronize(this.index);
  }

  /** A snapshot. */
  statistics(): DeviceStatistics {
    return native.statistics(this.index);
  }

  /** `limit` in bytes; `threads` of the CPU; `resetPeak` starts a new maximum; `trim` gives cached memory back. */
  configure(options: { limit?: number; threads?: number; resetPeak?: true; trim?: true }): void {
    native.configure(this.index, options);
  }

  /** The `count` largest holders of memory: bytes and number of tensors by label, largest first. */
  holders(count = 5): { label: string; bytes: number; tensors: number }[] {
    const byLabel = new Map<string, { label: string; bytes: number; tensors: number }>();
    for (const { label, bytes } of this.storages) {
      const entry = byLabel.get(label) ?? { label, bytes: 0, tensors: 0 };
      entry.bytes += bytes;
      entry.tensors++;
      byLabel.set(label, entry);
    }
    return [...byLabel.values()].sort((a, b) => b.bytes - a.bytes).slice(0, count);
  }

  #outOfMemory(label: string, bytes: number): OutOfMemoryError {
    const { live, limit, memoryAvailable } = this.statistics();
    const holders = this.holders().map((h) => `${h.label} ${binary(h.bytes)} (${h.tensors})`);
    const room = limit > 0 ? `a limit of ${binary(limit)}` : `${binary(memoryAvailable)} available`;
    return new OutOfMemoryError(
      `out of memory on ${this.name}: ${label} wanted ${binary(bytes)}, ${binary(live)} are live, with ${room}; ` +
        `the largest holders are ${holders.join(', ') || 'none'}`,
    );
  }
}

const opened = new Map<DeviceName, Device>();

/** The device of that name; opened at the first call. @throws UserError with the reason when there is none, or it cannot be used here */
export function device(name: DeviceName = 'cpu'): Device {
  if (!deviceNames.includes(name))
    throw new UserError(`device: expected one of ${deviceNames.join(', ')}, got ${String(name)}`);
  let found = opened.get(name);
  if (!found) opened.set(name, (found = new Device(name)));
  return found;
}

/** The device's reason for not being usable here, or undefined when it is. */
export function whyUnavailable(name: DeviceName): string | undefined {
  try {
    device(name);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
