// Tensors in a safetensors file: 8 bytes little-endian header length, a JSON header, then the raw little-endian values.
//   header: { "__metadata__": { name: text }, "weight": { "dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24] }, ... }
// Offsets count from the end of the header and leave no gaps. Metadata `sha256` is the digest of the whole file, taken with its own
// 64 digits as zeros, so that any changed byte is found. One tensor at a time is in memory while writing.
import { constants } from 'node:buffer';
import { createHash, type Hash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import * as z from 'zod';
import { bytesOf, dtypes, type DType } from '../tensor/dtype.js';
import { UserError } from '../tensor/errors.js';
import { explainFileError, writeAll, writeAtomic } from './atomic.js';

const formats = {
  float64: 'F64',
  float32: 'F32',
  int32: 'I32',
  bfloat16: 'BF16',
  uint8: 'U8',
} as const satisfies Record<DType, string>;

/** Bytes of an element of the types that turl writes, and of those that other programs write. */
const ownTypes: Readonly<Record<string, number>> = Object.fromEntries(
  dtypes.map((dtype) => [formats[dtype], bytesOf[dtype]]),
);
const foreignTypes: Readonly<Record<string, number>> = {
  ...ownTypes,
  ...{ I64: 8, U64: 8, U32: 4, F16: 2, I16: 2, U16: 2, I8: 1, BOOL: 1, F8_E4M3: 1, F8_E5M2: 1 },
};
const dtypeOf = (type: string) => dtypes.find((dtype) => formats[dtype] === type) ?? 'uint8';

export interface StoredTensor {
  dtype: DType;
  shape: readonly number[];
  /** Little-endian values, in the order of the shape. */
  data: Uint8Array;
}

/** A tensor of another program. */
export interface ForeignTensor {
  /** As the file has it: F32, F64, F16, BF16, I64, ... */
  type: string;
  shape: readonly number[];
  /** Little-endian values, in the order of the shape. */
  data: Uint8Array;
}

/** A tensor to write; its bytes may be made when they are needed, so that they need not all be in memory together, and in parts. */
export interface TensorSource {
  dtype: DType;
  shape: readonly number[];
  data: Uint8Array | (() => Iterable<Uint8Array>);
}

/** The bytes of an array, at most 1 GiB at a time: Node 20 has no array of more than 4 Gi elements. */
export function* bytesInParts(
  { buffer, byteOffset, byteLength }: ArrayBufferView,
  most = 2 ** 30,
): Generator<Uint8Array> {
  for (let at = 0; at < byteLength; at += most)
    yield new Uint8Array(buffer, byteOffset + at, Math.min(most, byteLength - at));
}

export interface SafetensorsFile {
  tensors: Map<string, StoredTensor>;
  metadata: Record<string, string>;
}

const noDigest = '0'.repeat(64);
const chunk = 1 << 24; // bytes read or hashed at a time

const byteLength = ({ dtype, shape }: { dtype: DType; shape: readonly number[] }) =>
  shape.reduce((product, n) => product * n, bytesOf[dtype]);

/** Writes `file` atomically. */
export function writeSafetensors(
  file: string,
  tensors: ReadonlyMap<string, TensorSource>,
  metadata: Readonly<Record<string, string>> = {},
): void {
  // Large types first keeps every tensor on a multiple of its own size.
  const order = [...tensors].sort(([, a], [, b]) => bytesOf[b.dtype] - bytesOf[a.dtype]);
  const header: Record<string, unknown> = { __metadata__: { ...metadata, sha256: noDigest } };
  let offset = 0;
  for (const [name, tensor] of order) {
    const end = offset + byteLength(tensor);
    header[name] = { dtype: formats[tensor.dtype], shape: tensor.shape, data_offsets: [offset, end] };
    offset = end;
  }
  const text = Buffer.from(JSON.stringify(header));
  const padded = Buffer.alloc(8 + Math.ceil(text.length / 8) * 8, ' ');
  padded.writeBigUInt64LE(BigInt(padded.length - 8));
  text.copy(padded, 8);

  writeAtomic(file, (descriptor) => {
    const hash = createHash('sha256').update(padded);
    writeAll(descriptor, padded);
    for (const [name, tensor] of order) {
      let written = 0;
      for (const data of typeof tensor.data === 'function' ? tensor.data() : [tensor.data]) {
        digest(hash, data);
        writeAll(descriptor, data);
        written += data.length;
      }
      if (written !== byteLength(tensor))
        throw new UserError(
          `safetensors: ${name} is ${tensor.dtype} [${tensor.shape.join(', ')}], expected ${byteLength(tensor)} bytes, got ${written}`,
        );
    }
    writeAll(descriptor, Buffer.from(hash.digest('hex')), digestPosition(padded));
  });
}

/** Reads the whole file, which turl wrote: one without a checksum is refused. */
export function readSafetensors(file: string): SafetensorsFile {
  const tensors = new Map<string, StoredTensor>();
  const metadata = readTensors(file, (name, tensor) => tensors.set(name, tensor));
  return { tensors, metadata };
}

/**
 * Gives the tensors of a file that turl wrote to `use`, one at a time in memory, and returns the metadata. That they are whole is
 * known at the end.
 */
export function readTensors(
  file: string,
  use: (name: string, tensor: StoredTensor) => void,
): Record<string, string> {
  const { metadata, checked } = readFile(file, ownTypes, (name, { type, shape, data }) =>
    use(name, { dtype: dtypeOf(type), shape, data }),
  );
  if (!checked)
    throw new UserError(`${file} has no checksum: it was not written by turl, or its header is damaged`);
  return metadata;
}

/** Reads the tensors of a file of any program, of any type; a checksum is compared where there is one. */
export function readForeignTensors(file: string): Map<string, ForeignTensor> {
  const tensors = new Map<string, ForeignTensor>();
  readFile(file, foreignTypes, (name, tensor) => tensors.set(name, tensor));
  return tensors;
}

function readFile(
  file: string,
  types: typeof ownTypes,
  use: (name: string, tensor: ForeignTensor) => void,
): { metadata: Record<string, string>; checked: boolean } {
  return withFile(file, (descriptor, size) => {
    const { head, entries, metadata } = readHeader(file, descriptor, size, types);
    const { sha256: expected, ...own } = metadata;
    const checked = expected !== undefined;
    if (checked) head.write(noDigest, digestPosition(head), 'latin1');
    const hash = createHash('sha256').update(head);
    for (const [name, { type, shape, start, length }] of entries) {
      if (length > constants.MAX_LENGTH)
        throw new UserError(
          `${file}: ${name} has ${length} bytes, and Node ${process.versions.node} can hold ${constants.MAX_LENGTH} of one tensor: expected Node 22 or newer`,
        );
      const data = readBytes(file, descriptor, length, head.length + start);
      if (checked) digest(hash, data);
      use(name, { type, shape, data });
    }
    if (checked && hash.digest('hex') !== expected)
      throw damaged(file, 'its checksum does not match its content');
    return { metadata: own, checked };
  });
}

/** Where the values of each tensor begin in the file, for reading a few of many rows; their checksum is not compared. */
export function locateTensors(
  file: string,
): Map<string, { dtype: DType; shape: readonly number[]; position: number }> {
  return withFile(file, (descriptor, size) => {
    const { head, entries } = readHeader(file, descriptor, size, ownTypes);
    return new Map(
      entries.map(([name, { type, shape, start }]) => [
        name,
        { dtype: dtypeOf(type), shape, position: head.length + start },
      ]),
    );
  });
}

/** The metadata alone, without reading, or checking, the tensors. */
export function readSafetensorsMetadata(file: string): Record<string, string> {
  return withFile(file, (descriptor, size) => {
    const metadata = { ...readHeader(file, descriptor, size, ownTypes).metadata };
    delete metadata['sha256'];
    return metadata;
  });
}

const headerSchema = z.record(
  z.string(),
  z.strictObject({
    dtype: z.string(),
    shape: z.array(z.int().min(0)),
    data_offsets: z.tuple([z.int().min(0), z.int().min(0)]),
  }),
);
const metadataSchema = z.record(z.string(), z.string());

interface Entry {
  type: string;
  shape: readonly number[];
  /** First byte of its data, counted from the end of the header, and how many those are. */
  start: number;
  length: number;
}

function readHeader(
  file: string,
  descriptor: number,
  size: number,
  types: typeof ownTypes,
): { head: Buffer; entries: [string, Entry][]; metadata: Record<string, string> } {
  if (size < 8) throw damaged(file, `it has ${size} bytes`);
  const length = Number(readBytes(file, descriptor, 8, 0).readBigUInt64LE());
  if (length > size - 8) throw damaged(file, `its header should have ${length} bytes, the file has ${size}`);
  const head = readBytes(file, descriptor, 8 + length, 0);
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(head.subarray(8)));
  } catch {
    throw damaged(file, 'its header is not JSON');
  }
  const { __metadata__ = {}, ...rest } = z.record(z.string(), z.unknown()).safeParse(json).data ?? {
    '': null,
  };
  const metadata = metadataSchema.safeParse(__metadata__);
  const header = headerSchema.safeParse(rest);
  if (!metadata.success || !header.success) throw damaged(file, 'its header has an unknown form');

  const listed = Object.entries(header.data).sort(([, a], [, b]) => a.data_offsets[0] - b.data_offsets[0]);
  let offset = 0;
  const entries = listed.map(([name, { dtype: type, shape, data_offsets }]): [string, Entry] => {
    const bytes = types[type];
    if (bytes === undefined)
      throw new UserError(
        `${file}: ${name} is of type ${type}, expected one of ${Object.keys(types).join(', ')}`,
      );
    const start = offset;
    const length = shape.reduce((product, n) => product * n, bytes);
    offset += length;
    if (data_offsets[0] !== start || data_offsets[1] !== offset)
      throw damaged(file, `the place of ${name} is wrong`);
    return [name, { type, shape, start, length }];
  });
  if (head.length + offset !== size)
    throw damaged(file, `it should have ${head.length + offset} bytes and has ${size}`);
  return { head, entries, metadata: metadata.data };
}

/** Where the 64 digits stand: after the key in the metadata, which is the first thing in our header. */
function digestPosition(head: Buffer): number {
  const key = '"sha256":"';
  return head.indexOf(key) + key.length;
}

function digest(hash: Hash, data: Uint8Array): void {
  for (let at = 0; at < data.length; at += chunk) hash.update(data.subarray(at, at + chunk));
}

function readBytes(file: string, descriptor: number, length: number, position: number): Buffer {
  const data = Buffer.allocUnsafeSlow(length);
  for (let done = 0; done < length;) {
    const read = readSync(descriptor, data, done, Math.min(chunk, length - done), position + done);
    if (read === 0) throw damaged(file, `it ends after ${position + done} bytes`);
    done += read;
  }
  return data;
}

function withFile<T>(file: string, use: (descriptor: number, size: number) => T): T {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(file, 'r');
    return use(descriptor, fstatSync(descriptor).size);
  } catch (error) {
    throw explainFileError(error, `read ${file}`);
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

const damaged = (file: string, why: string) =>
  new UserError(`${file} is damaged, or not a safetensors file: ${why}`);
