/**
 * Reads the tensors of a file that PyTorch saved, the archive of today or the pickles of before version 1.6, without executing anything:
 * of Python's globals only those that build tensors and dictionaries are known, and any other is refused by its name.
 */
import { readFileSync } from 'node:fs';
import { unzipSync } from 'fflate';
import { BufferReader, Parser } from 'pickleparser';
import { UserError } from '../tensor/errors.js';
import { explainFileError } from '../train/atomic.js';

/** A tensor in C order. */
export interface StateTensor {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}
/** Tensors by name, in the order of the file. */
export type StateDict = Map<string, StateTensor>;

type Read = (view: DataView, at: number) => number;
const bfloat = new DataView(new ArrayBuffer(4));
/** How an element of each floating-point type is read, under its name in safetensors. */
export const readFloat = {
  F32: (view, at) => view.getFloat32(at, true),
  F64: (view, at) => view.getFloat64(at, true),
  F16: (view, at) => fromHalf(view.getUint16(at, true)),
  BF16: (view, at) => {
    bfloat.setUint32(0, view.getUint16(at, true) << 16);
    return bfloat.getFloat32(0);
  },
} as const satisfies Record<string, Read>;
/** Bytes of an element, and how one is read; numbers that count something are of no use here and are left out. */
const storageTypes: Readonly<Record<string, readonly [bytes: number, read: Read | undefined]>> = {
  FloatStorage: [4, readFloat.F32],
  DoubleStorage: [8, readFloat.F64],
  HalfStorage: [2, readFloat.F16],
  BFloat16Storage: [2, readFloat.BF16],
  LongStorage: [8, undefined],
  IntStorage: [4, undefined],
  ShortStorage: [2, undefined],
  CharStorage: [1, undefined],
  ByteStorage: [1, undefined],
  BoolStorage: [1, undefined],
};

/** The number that IEEE half-precision bits stand for. */
function fromHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
}

class StorageType {
  constructor(readonly name: string) {}
}
class Storage {
  data: Uint8Array | undefined;
  constructor(
    readonly type: StorageType,
    readonly key: string,
    readonly elements: number,
  ) {}
}
/** A view of a storage, whose bytes may come later. */
class View {
  constructor(
    readonly storage: Storage,
    readonly offset: number,
    readonly shape: readonly number[],
    readonly strides: readonly number[],
  ) {}
}
class Dictionary extends Map<unknown, unknown> {
  __setstate__(): void {
    // Attributes of a state dict (its versions) say nothing of its tensors.
  }
}

const isCounts = (value: unknown): value is number[] =>
  Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && (n as number) >= 0);

function rebuildTensor(storage: unknown, offset: unknown, shape: unknown, strides: unknown): View {
  if (!(storage instanceof Storage) || !isCounts([offset]) || !isCounts(shape) || !isCounts(strides))
    throw new UserError('expected a tensor to be a storage, an offset, sizes and strides');
  if (shape.length !== strides.length) throw new UserError('expected a stride for each size of a tensor');
  return new View(storage, offset as number, shape, strides);
}

function resolve(module: string, name: string): (...args: unknown[]) => unknown {
  const known: Readonly<Record<string, (...args: unknown[]) => unknown>> = {
    'collections.OrderedDict': () => new Dictionary(),
    'torch._utils._rebuild_tensor_v2': rebuildTensor,
    'torch._utils._rebuild_tensor': rebuildTensor,
    'torch._utils._rebuild_parameter': (data) => data,
  };
  const found = known[`${module}.${name}`];
  if (found) return found;
  // A storage type is only ever named, never called.
  if (module === 'torch' && name in storageTypes)
    return new StorageType(name) as unknown as (...args: unknown[]) => unknown;
  throw new UserError(`expected tensors and dictionaries only, found ${module}.${name}, which is not run`);
}

/** Reads one pickle; storages that it speaks of are collected. */
function unpickle(reader: BufferReader, storages: Map<string, Storage>): unknown {
  const storageOf = (id: unknown): Storage => {
    const [kind, type, key, , elements] = Array.isArray(id) ? (id as unknown[]) : [];
    if (
      kind !== 'storage' ||
      !(type instanceof StorageType) ||
      typeof key !== 'string' ||
      !isCounts([elements])
    )
      throw new UserError('expected a persistent id to be a storage');
    const found = storages.get(key) ?? new Storage(type, key, elements as number);
    storages.set(key, found);
    return found;
  };
  const parser = new Parser({
    nameResolver: { resolve },
    persistentResolver: { resolve: storageOf },
    unpicklingTypeOfDictionary: 'Map',
  });
  return parser.read(reader);
}

function readArchive(file: Buffer, storages: Map<string, Storage>): unknown {
  const parts = unzipSync(file, { filter: ({ compression }) => compression === 0 });
  const index = Object.keys(parts).find((name) => name.endsWith('/data.pkl'));
  const pickle = index === undefined ? undefined : parts[index];
  if (index === undefined || !pickle) throw new UserError('expected data.pkl in the archive, found none');
  const content = unpickle(new BufferReader(pickle), storages);
  const folder = index.slice(0, -'data.pkl'.length);
  for (const storage of storages.values()) storage.data = parts[`${folder}data/${storage.key}`];
  return content;
}

/** The pickle of PyTorch's magic number, whose ten bytes are too long for the parser. */
const magic = Buffer.from('80028a0a6cfc9c46f9206aa850192e', 'hex');

/** Four pickles (magic number, version, system, content), one with the storages' keys, then each: its length and its bytes. */
function readPickles(file: Buffer, storages: Map<string, Storage>): unknown {
  if (!file.subarray(0, magic.length).equals(magic))
    throw new UserError('expected an archive or pickles that PyTorch saved, found something else');
  const reader = new BufferReader(file);
  reader.skip(magic.length);
  for (let i = 0; i < 2; i++) unpickle(reader, storages);
  const content = unpickle(reader, storages);
  const keys = unpickle(reader, new Map());
  if (!Array.isArray(keys)) throw new UserError('expected a list of storages');
  for (const key of keys as unknown[]) {
    const storage = storages.get(String(key));
    if (!storage) throw new UserError(`expected only storages that a tensor names, found ${String(key)}`);
    const elements = Number(Buffer.from(reader.bytes(8)).readBigUInt64LE());
    const [bytes = 1] = storageTypes[storage.type.name] ?? [];
    storage.data = Uint8Array.from(reader.bytes(elements * bytes));
  }
  return content;
}

function materialise(name: string, { storage, offset, shape, strides }: View): StateTensor | undefined {
  const [bytes, read] = storageTypes[storage.type.name] ?? [1, undefined];
  if (!read) return undefined;
  const size = shape.reduce((product, n) => product * n, 1);
  const last = shape.reduce((sum, n, axis) => sum + (n - 1) * (strides[axis] ?? 0), offset);
  const { data } = storage;
  if (!data || (size > 0 && (last + 1) * bytes > data.length))
    throw new UserError(
      `expected ${name} [${shape.join(', ')}] within its storage, which has ${data?.length ?? 0} bytes`,
    );
  // Strides may repeat elements, so that a small file could speak of a tensor of any size.
  if (size * bytes > data.length)
    throw new UserError(`expected ${name} to be no larger than its storage, found [${shape.join(', ')}]`);
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const values = new Float32Array(size);
  for (let i = 0; i < size; i++) {
    let [rest, at] = [i, offset];
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const n = shape[axis] ?? 1;
      at += (rest % n) * (strides[axis] ?? 0);
      rest = Math.floor(rest / n);
    }
    values[i] = read(view, at * bytes);
  }
  return { shape, values };
}

const viewsOf = (value: unknown) =>
  value instanceof Map
    ? [...(value as Map<unknown, unknown>)].filter(
        (entry): entry is [string, View] => typeof entry[0] === 'string' && entry[1] instanceof View,
      )
    : [];

/** The dictionary with the most tensors: the content itself, or what it holds under `state_dict` or another name. */
function stateOf(content: unknown): [string, View][] {
  const inside = content instanceof Map ? [...(content as Map<unknown, unknown>).values()].map(viewsOf) : [];
  return [viewsOf(content), ...inside].reduce((best, views) => (views.length > best.length ? views : best));
}

/** @throws UserError when the file is not one of PyTorch's, damaged, or would run something */
export function readTorchFile(path: string): StateDict {
  let file: Buffer;
  try {
    file = readFileSync(path);
  } catch (error) {
    throw explainFileError(error, `read ${path}`);
  }
  const storages = new Map<string, Storage>();
  try {
    const content =
      file.subarray(0, 2).toString() === 'PK' ? readArchive(file, storages) : readPickles(file, storages);
    const state: StateDict = new Map();
    for (const [name, view] of stateOf(content)) {
      const tensor = materialise(name, view);
      if (tensor) state.set(name.replace(/^module\./, ''), tensor);
    }
    if (state.size === 0) throw new UserError('expected a dictionary of tensors, found none');
    return state;
  } catch (error) {
    if (error instanceof UserError) throw new UserError(`${path}: ${error.message}`);
    const reason = error instanceof Error ? error.message : String(error);
    throw new UserError(
      `${path}: expected weights that PyTorch saved, found something else or damage (${reason})`,
    );
  }
}
