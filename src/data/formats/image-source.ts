/** Where encoded images lie and how their bytes are read, one at a time, in any order, in any thread. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { UserError } from '../../tensor/errors.js';
import { sharedMemory } from '../shared-memory.js';
import { recordImage } from './recordio.js';

/** Names of files, in memory that threads share: as texts, each worker would have millions of them of its own. */
export interface FileNames {
  readonly utf8: Uint8Array;
  /** For each name, the byte after its last. */
  readonly ends: Float64Array;
}

/** Plain data: it can be sent to a worker. */
export type ImageSource =
  /** A file for each image. */
  | { readonly kind: 'files'; readonly root: string; readonly files: FileNames }
  /** A record of a RecordIO file for each image: where it begins, and the bytes to the next one. */
  | {
      readonly kind: 'records';
      readonly file: string;
      readonly starts: Float64Array;
      readonly spans: Int32Array;
    }
  /** A slice for each image, of a file or of memory. */
  | {
      readonly kind: 'slices';
      readonly file: string;
      /** The Parquet file that the slices are the rows of, where `file` is what was unpacked of it. */
      readonly table?: string;
      readonly memory: SharedArrayBuffer | null;
      readonly starts: Float64Array;
      readonly lengths: Int32Array;
    };

/** Files below `root`, which may be empty. */
export function filesSource(root: string, names: readonly string[]): ImageSource {
  const ends = new Float64Array(sharedMemory(8 * names.length, `${names.length} images`));
  let bytes = 0;
  names.forEach((name, item) => (ends[item] = bytes += Buffer.byteLength(name)));
  const utf8 = Buffer.from(sharedMemory(bytes, `the names of ${names.length} images`));
  names.forEach((name, item) => utf8.write(name, ends[item - 1] ?? 0));
  return { kind: 'files', root, files: { utf8: new Uint8Array(utf8.buffer), ends } };
}

export function sourceLength(source: ImageSource): number {
  return source.kind === 'files' ? source.files.ends.length : source.starts.length;
}

/** The path of an image below the root. */
function fileName({ utf8, ends }: FileNames, item: number): string {
  return Buffer.from(utf8.buffer).toString('utf8', ends[item - 1] ?? 0, ends[item] ?? 0);
}

/** Images of a source as one of their own, in the order given. */
export function chooseImages(source: ImageSource, order: Int32Array): ImageSource {
  if (source.kind === 'files')
    return filesSource(
      source.root,
      Array.from(order, (image) => fileName(source.files, image)),
    );
  const starts = Float64Array.from(order, (image) => source.starts[image] ?? 0);
  return source.kind === 'records'
    ? { ...source, starts, spans: order.map((image) => source.spans[image] ?? 0) }
    : { ...source, starts, lengths: order.map((image) => source.lengths[image] ?? 0) };
}

/** An image's name in tables: its path below the root, or its number in the file. */
export function imageKey(source: ImageSource, item: number): string {
  return source.kind === 'files' ? fileName(source.files, item) : String(item);
}

/** An image's name: its path below the root, or its place in the file. */
export function imagePlace(source: ImageSource, item: number): string {
  if (source.kind === 'files') return fileName(source.files, item);
  return `${item} (at byte ${source.starts[item] ?? 0})`;
}

/** The place with the file it is in, for messages. */
export function imageFile(source: ImageSource, item: number): string {
  if (source.kind === 'files') return join(source.root, fileName(source.files, item));
  return source.kind === 'slices' && source.table !== undefined
    ? `${source.table}: row ${item}`
    : `${source.file}: image ${imagePlace(source, item)}`;
}

export interface SourceReader {
  /** The bytes of an image; they hold until the next call. @throws UserError with the reason, without the place */
  bytes(item: number): Buffer;
  close(): void;
}

/** Reads `length` bytes at `position`, into a buffer that is used again. */
function fileReader(file: string): { at(position: number, length: number): Buffer; close(): void } {
  let descriptor: number;
  try {
    descriptor = openSync(file, 'r');
  } catch {
    throw new UserError(`${file} cannot be opened`);
  }
  let buffer = Buffer.alloc(1 << 16);
  return {
    at(position, length) {
      if (length > buffer.length) buffer = Buffer.alloc(length);
      let done = 0;
      while (done < length) {
        const count = readSync(descriptor, buffer, done, length - done, position + done);
        if (count === 0) throw new UserError(`the file ends at byte ${position + done}, inside of the image`);
        done += count;
      }
      return buffer.subarray(0, length);
    },
    close: () => closeSync(descriptor),
  };
}

/** Opens a source in this thread. */
export function openSource(source: ImageSource): SourceReader {
  if (source.kind === 'files') {
    let buffer = Buffer.alloc(1 << 16);
    return {
      bytes(item) {
        try {
          const descriptor = openSync(join(source.root, fileName(source.files, item)), 'r');
          try {
            // Small files, which aligned faces are, take one read: it must leave room, to see that the file has ended.
            const count = readSync(descriptor, buffer, 0, buffer.length, 0);
            if (count < buffer.length) return buffer.subarray(0, count);
            buffer = Buffer.alloc(2 * fstatSync(descriptor).size);
            return buffer.subarray(0, readSync(descriptor, buffer, 0, buffer.length, 0));
          } finally {
            closeSync(descriptor);
          }
        } catch {
          throw new UserError('the file cannot be read');
        }
      },
      close: () => undefined,
    };
  }
  const { starts } = source;
  if (source.kind === 'records') {
    const reader = fileReader(source.file);
    return {
      bytes: (item) => recordImage(reader.at(starts[item] ?? 0, source.spans[item] ?? 0)),
      close: () => reader.close(),
    };
  }
  const { memory, lengths } = source;
  if (memory)
    return {
      bytes: (item) => Buffer.from(memory, starts[item] ?? 0, lengths[item] ?? 0),
      close: () => undefined,
    };
  const reader = fileReader(source.file);
  return {
    bytes: (item) => reader.at(starts[item] ?? 0, lengths[item] ?? 0),
    close: () => reader.close(),
  };
}
