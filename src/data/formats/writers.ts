/**
 * Writing a set of encoded images: the very bytes of each, with its identity. A set is written under a temporary name and renamed when
 * it is whole. A writer says how many images it holds already, of an attempt that was cut off; it is given the images after those.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
} from 'node:fs';
import { basename, dirname, extname, join } from 'node:path';
import { fileWriter, ParquetWriter } from 'hyparquet-writer';
import { UserError } from '../../tensor/errors.js';
import {
  explainFileError,
  makeFolder,
  removeTemporaries,
  syncFile,
  writeAll,
  writeAtomic,
} from '../../train/atomic.js';
import { lockPath } from '../../train/run-lock.js';
import { isImageName } from '../image-file.js';
import { archiveKind } from './archive.js';
import { binWriter } from './bin.js';
import { header, imageRecord, record } from './recordio.js';
import {
  checkCounts,
  checkFolderName,
  checkTarget,
  indexOf,
  originName,
  partOf,
  withoutSlash,
  type Content,
  type Origin,
} from './target.js';

export interface WrittenImage {
  readonly bytes: Uint8Array;
  /** The number of its identity; images come by ascending numbers. */
  readonly label: number;
  /** The identity's name. */
  readonly identity: string;
  /** The name that it had, or its number: what a folder calls it. */
  readonly name: string;
}

export interface ArchiveWriter {
  /** Images that are written already. */
  readonly done: number;
  /** @throws Error when its label is lower than the one before, which would divide an identity */
  add(image: WrittenImage): Promise<void>;
  /**
   * Makes the set whole.
   * @param genuine of a verification set, for each two images whether they show one person
   * @returns a sentence when a file that belongs beside it was not written
   */
  finish(genuine?: readonly boolean[]): Promise<string | undefined>;
  /** Leaves the attempt as it is, to go on another time, and lets other processes write there; nothing where the set is whole. */
  close(): void;
  /** Gives the attempt up: nothing of it is left. */
  discard(): void;
}

/** What a format does to write a set; `createArchive` sees to the rest. */
interface Format {
  readonly done: number;
  /** Files and folders that are there before the set is whole. */
  readonly made: readonly string[];
  add(image: WrittenImage): void | Promise<void>;
  finish(genuine?: readonly boolean[]): string | undefined | Promise<undefined>;
  close(): void;
}

/** The extension that the bytes of an image call for; a broken one gets one too, to be named as broken under it. */
export function extensionOf(bytes: Uint8Array): string {
  const head = Buffer.from(bytes.subarray(0, 12)).toString('latin1');
  if (head.startsWith('\x89PNG')) return '.png';
  if (head.startsWith('RIFF') && head.slice(8) === 'WEBP') return '.webp';
  if (head.startsWith('BM')) return '.bmp';
  if (/^P[25]\s/.test(head)) return '.pgm';
  if (/^P[36]\s/.test(head)) return '.ppm';
  return '.jpg';
}

/**
 * Opens what `path` names to be written, for this process alone; refuses to write over what is there.
 * @param size side of the images in pixels, for `property`
 */
export function createArchive(path: string, size: number, content?: Content): ArchiveWriter {
  checkTarget(path, content);
  let taken: { format: Format; release: () => void };
  try {
    makeFolder(dirname(path));
    taken = takeTarget(path, size, content);
  } catch (error) {
    throw explainFileError(error, `write ${path}`);
  }
  const { format, release } = taken;
  let open = true;
  const close = () => {
    if (!open) return;
    open = false;
    try {
      format.close();
    } catch {
      // A whole set was forced to the disk, and an attempt is looked through before it goes on.
    }
    release();
  };
  /** Runs a piece of writing; what goes wrong is the disk's or the user's. */
  const writing = async <T>(write: () => T | Promise<T>): Promise<T> => {
    try {
      return await write();
    } catch (error) {
      throw explainFileError(error, `write ${path}`);
    }
  };
  return {
    done: format.done,
    add: (image) => writing(() => format.add(image)),
    finish: async (genuine) => {
      const note = await writing(() => format.finish(genuine));
      close();
      return note;
    },
    close,
    discard() {
      close();
      for (const left of format.made) rmSync(left, { recursive: true, force: true });
    },
  };
}

/** Locks the target and opens what is written. */
function takeTarget(path: string, size: number, content?: Content): { format: Format; release: () => void } {
  const release = lockPath(withoutSlash(path));
  const fresh = !existsSync(partOf(path));
  try {
    checkTarget(path, content); // another process may have written there meanwhile
    return { format: openFormat(path, size, content?.origin), release };
  } catch (error) {
    if (fresh)
      for (const left of [partOf(path), partOf(indexOf(path))])
        rmSync(left, { recursive: true, force: true });
    release();
    throw error;
  }
}

function openFormat(path: string, size: number, origin?: Origin): Format {
  switch (archiveKind(path)) {
    case 'folder':
      return folderWriter(withoutSlash(path), origin);
    case 'recordio':
      return recordWriter(path, size, origin);
    case 'bin':
      return binFile(path);
    default:
      return parquetFile(path);
  }
}

/** Closes files, each once whatever fails. */
const closer =
  (...files: number[]) =>
  () => {
    for (const file of files.splice(0)) closeSync(file);
  };

function folderWriter(path: string, origin?: Origin): Format {
  const part = partOf(path);
  makeFolder(part);
  if (origin) writeAtomic(join(part, originName), `${JSON.stringify(origin)}\n`);
  const present = readdirSync(part, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  for (const { name } of present) removeTemporaries(join(part, name));
  const done = present.reduce(
    (sum, { name }) => sum + readdirSync(join(part, name)).filter(isImageName).length,
    0,
  );
  return {
    done,
    made: [part],
    add({ bytes, identity, name }) {
      checkFolderName(path, identity);
      const folder = join(part, identity);
      mkdirSync(folder, { recursive: true });
      const readable = name.replaceAll('/', '_').replace(/^\./, '_');
      // A name that has a file's extension keeps it.
      const file = isImageName(readable) ? readable : readable + extensionOf(bytes);
      const extension = extname(file);
      // Images of one identity from several places, or 1.png and 1.jpg aligned, can have the same name.
      let free = file;
      for (let n = 2; existsSync(join(folder, free)); n++)
        free = `${basename(file, extension)}-${n}${extension}`;
      writeAtomic(join(folder, free), bytes);
    },
    finish() {
      if (existsSync(path)) rmdirSync(path); // it was empty
      renameSync(part, path);
      rmSync(join(path, originName), { force: true });
      return undefined;
    },
    close: () => undefined,
  };
}

/** InsightFace's layout: record 0, images from 1, then the identities' ranges; index and property beside it. */
function recordWriter(path: string, size: number, origin?: Origin): Format {
  const part = partOf(path);
  const indexPart = partOf(indexOf(path));
  // What an earlier attempt wrote whole is kept: lines of the index that end, and the records before the last one of them. The first
  // line is the origin.
  const lines =
    existsSync(indexPart) && existsSync(part) ? readFileSync(indexPart, 'utf8').split('\n').slice(1, -1) : [];
  const starts: number[] = [];
  const labels: number[] = [];
  for (const line of lines) {
    const [, start = NaN, label = NaN] = line.split('\t').map(Number);
    starts.push(start);
    labels.push(label);
  }
  const zero = record(header([0, 0], 0));
  const file = openSync(part, existsSync(part) ? 'r+' : 'w');
  const index = openSync(indexPart, existsSync(indexPart) ? 'r+' : 'w');
  const written = statSync(part).size;
  while (starts.length > 0 && (starts.at(-1) ?? 0) >= written) {
    starts.pop();
    labels.pop();
  }
  // The last record that has a line may be cut off: it is written again.
  let end = starts.pop() ?? zero.length;
  labels.pop();
  ftruncateSync(file, end);
  const text = Buffer.from(
    `${JSON.stringify(origin ?? null)}\n` +
      starts.map((start, i) => `${i + 1}\t${start}\t${labels[i]}\n`).join(''),
  );
  writeAll(index, text, 0);
  ftruncateSync(index, text.length);
  writeAll(file, zero, 0);
  let indexEnd = text.length;
  const made = [part, indexPart];
  const close = closer(file, index);
  const append = (data: Buffer) => {
    writeAll(file, data, end);
    end += data.length;
  };
  return {
    done: starts.length,
    made,
    add({ bytes, label }) {
      if (label < (labels.at(-1) ?? label))
        throw new Error(`${path}: image ${starts.length} has label ${label}, lower than the one before`);
      checkCounts(path, starts.length + 1, label + 1);
      const start = end;
      const image = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      append(imageRecord(image, label, starts.length + 1));
      const line = Buffer.from(`${starts.length + 1}\t${start}\t${label}\n`);
      writeAll(index, line, indexEnd);
      indexEnd += line.length;
      starts.push(start);
      labels.push(label);
    },
    finish() {
      const identities: string[] = [];
      const first = starts.length + 1;
      for (let i = 0; i < labels.length;) {
        let j = i;
        while (j < labels.length && labels[j] === labels[i]) j++;
        const key = first + identities.length;
        identities.push(`${key}\t${end}\n`);
        append(record(header([i + 1, j + 1], key)));
        i = j;
      }
      writeAll(file, record(header([first, first + identities.length], 0)), 0);
      fsyncSync(file);
      close();
      const all = ['0\t0\n', ...starts.map((start, i) => `${i + 1}\t${start}\n`), ...identities];
      made.push(indexOf(path));
      writeAtomic(indexOf(path), all.join(''));
      const property = join(dirname(path), 'property');
      const text = `${identities.length},${size},${size}`;
      const note = propertyNote(path, property, text);
      if (note === undefined && !existsSync(property)) {
        made.push(property);
        writeAtomic(property, `${text}\n`);
      }
      renameSync(part, path);
      rmSync(indexPart);
      return note;
    },
    close,
  };
}

/** Why `property` cannot say `text`: it has one name for a whole folder, so there must be no other there, and no other .rec. */
function propertyNote(path: string, property: string, text: string): string | undefined {
  const folder = dirname(path);
  if (existsSync(property)) {
    const found = readFileSync(property, 'utf8').trim();
    return found === text
      ? undefined
      : `${property} was left as it is: it says "${found.slice(0, 60)}", and of ${path} it would say "${text}"`;
  }
  const names = [basename(path), partOf(basename(path))];
  if (readdirSync(folder).some((name) => /\.rec(\.part)?$/.test(name) && !names.includes(name)))
    return `${property} was not written: there are several .rec in ${folder}, and it can be right for one of them only`;
  return undefined;
}

/** A verification set; started anew after a stop. */
function binFile(path: string): Format {
  const part = partOf(path);
  const file = openSync(part, 'w');
  const close = closer(file);
  writeAll(file, binWriter.head);
  let count = 0;
  return {
    done: 0,
    made: [part],
    add({ bytes }) {
      writeAll(file, binWriter.image(bytes));
      count++;
    },
    finish(genuine) {
      if (!genuine || 2 * genuine.length !== count)
        throw new UserError(
          `${path}: a verification set needs pairs, two images for each: expected another .bin to pack from`,
        );
      writeAll(file, binWriter.tail(genuine));
      fsyncSync(file);
      close();
      renameSync(part, path);
      return undefined;
    },
    close,
  };
}

/** Columns image (bytes, not compressed again), label and name; started anew after a stop. */
function parquetFile(path: string): Format {
  const part = partOf(path);
  const parquet = new ParquetWriter({
    writer: fileWriter(part),
    codec: 'UNCOMPRESSED',
    statistics: false,
    schema: [
      { name: 'root', num_children: 3 },
      { name: 'image', type: 'BYTE_ARRAY', repetition_type: 'REQUIRED' },
      { name: 'label', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'REQUIRED' },
      { name: 'name', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'REQUIRED' },
    ],
  });
  let rows: WrittenImage[] = [];
  const writeRows = async () => {
    if (rows.length === 0) return;
    await parquet.write({
      columnData: [
        { name: 'image', data: rows.map(({ bytes }) => bytes), encoding: 'PLAIN', nullable: false },
        { name: 'label', data: rows.map(({ identity }) => identity), nullable: false },
        { name: 'name', data: rows.map(({ name }) => name), nullable: false },
      ],
      rowGroupSize: rows.length,
    });
    rows = [];
  };
  return {
    done: 0,
    made: [part],
    async add(image) {
      rows.push({ ...image, bytes: Uint8Array.from(image.bytes) });
      if (rows.length === 1000) await writeRows();
    },
    async finish() {
      await writeRows();
      await parquet.finish();
      syncFile(part);
      renameSync(part, path);
      return undefined;
    },
    close: () => undefined,
  };
}
