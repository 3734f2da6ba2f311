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
  realpathSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, extname, join, resolve, sep } from 'node:path';
import { fileWriter, ParquetWriter } from 'hyparquet-writer';
import * as z from 'zod';
import { UserError } from '../../tensor/errors.js';
import { explainFileError, makeFolder, removeTemporaries, writeAtomic } from '../../train/atomic.js';
import { imageExtensions } from '../image-file.js';
import { archiveKind, type Archive } from './archive.js';
import { binWriter } from './bin.js';
import { header, imageRecord, record } from './recordio.js';

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
  add(image: WrittenImage): void | Promise<void>;
  /**
   * Makes the set whole.
   * @param genuine of a verification set, for each two images whether they show one person
   * @returns a sentence when a file that belongs beside it was not written
   */
  finish(genuine?: readonly boolean[]): string | undefined | Promise<undefined>;
  /** Gives the attempt up: nothing of it is left. */
  discard(): void;
}

/** What a set is made from. An attempt that was cut off goes on only if it was made from the same. */
export interface Origin {
  /** Path of the set that the images are taken from. */
  readonly path: string;
  /** Of all that says which images come in which order. */
  readonly digest: string;
}

/** The extension that the bytes of an image call for. */
export function extensionOf(bytes: Uint8Array): string {
  const head = Buffer.from(bytes.subarray(0, 12)).toString('latin1');
  if (head.startsWith('\xff\xd8')) return '.jpg';
  if (head.startsWith('\x89PNG')) return '.png';
  if (head.startsWith('RIFF') && head.slice(8) === 'WEBP') return '.webp';
  if (head.startsWith('BM')) return '.bmp';
  if (/^P[25]\s/.test(head)) return '.pgm';
  if (/^P[36]\s/.test(head)) return '.ppm';
  throw new UserError('expected JPEG, PNG, WebP, PGM, PPM or BMP, found none of these');
}

/** A path as the system knows it: links are followed as far as there is something. */
function realPath(path: string): string {
  const full = resolve(path);
  if (existsSync(full)) return realpathSync(full);
  return dirname(full) === full ? full : join(realPath(dirname(full)), basename(full));
}

/** Whether `path` is `folder` or lies in it. */
export function isWithin(path: string, folder: string): boolean {
  return `${realPath(path)}${sep}`.startsWith(`${realPath(folder)}${sep}`);
}

/**
 * Checks, before anything is written, that a set can be written to `path`: nothing is there, neither the set nor an attempt made from
 * something else, and a folder does not become an identity of the folder that it is made from.
 * @param origin what it is to be made from, when an attempt may go on
 */
export function checkTarget(path: string, archive?: Archive, origin?: Origin): void {
  const kind = archiveKind(path);
  if (kind === 'list')
    throw new UserError(
      `a list holds no images: expected a folder, .rec, .bin or .parquet to write, got ${path}`,
    );
  if (existsSync(path) && !(kind === 'folder' && readdirSync(path).length === 0))
    throw new UserError(`${path} is there already: expected a new name`);
  if (kind === 'folder' && archive?.kind === 'folder' && isWithin(path, archive.path))
    throw new UserError(
      `${path} lies in ${archive.path}, which it is made from: expected a place outside of it`,
    );
  const part = partOf(path);
  // Others are started anew.
  if (kind !== 'folder' && kind !== 'recordio') return;
  const attempt = existsSync(part);
  // The index is written last: beside an attempt it is that attempt's.
  if (kind === 'recordio' && !attempt && existsSync(indexOf(path)))
    throw new UserError(`${indexOf(path)} is there already: expected a name without an index, got ${path}`);
  if (!attempt) return;
  const before = readOrigin(kind === 'folder' ? join(part, originName) : partOf(indexOf(path)));
  const remove = 'remove it to start anew';
  if (!origin || !before)
    throw new UserError(`${part} is of a run that was cut off and cannot go on: ${remove}`);
  if (before.path !== origin.path)
    throw new UserError(`${part} was begun from ${before.path}, expected ${origin.path}: ${remove}`);
  if (before.digest !== origin.digest)
    throw new UserError(
      `${part} was begun from other images of ${origin.path} than there are now: ${remove}`,
    );
}

/** Name of the file in a folder's attempt that holds its origin; the attempt of a .rec has it in the first line of its index. */
const originName = '.origin';

function readOrigin(file: string): Origin | undefined {
  try {
    const [line = ''] = readFileSync(file, 'utf8').split('\n', 1);
    return z.object({ path: z.string(), digest: z.string() }).parse(JSON.parse(line));
  } catch {
    return undefined; // there is none
  }
}

/**
 * Opens what `path` names to be written; refuses to write over what is there.
 * @param size side of the images in pixels, for `property`
 * @param origin what the set is made from; without it no attempt goes on
 */
export function createArchive(path: string, size: number, archive?: Archive, origin?: Origin): ArchiveWriter {
  checkTarget(path, archive, origin);
  try {
    makeFolder(dirname(path));
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
  } catch (error) {
    throw error instanceof UserError ? error : explainFileError(error, `write ${path}`);
  }
}

/** Runs a piece of writing; what goes wrong is the disk's or the user's. */
function writing<T>(path: string, write: () => T): T {
  try {
    return write();
  } catch (error) {
    throw error instanceof UserError ? error : explainFileError(error, `write ${path}`);
  }
}

/** Without slashes at its end: a name beside it would lie in it. */
export const withoutSlash = (path: string) => path.replace(/(?<=[^/])\/+$/, '');
const partOf = (path: string) => `${withoutSlash(path)}.part`;
const indexOf = (path: string) => path.replace(/\.rec$/i, '.idx');

function folderWriter(path: string, origin?: Origin): ArchiveWriter {
  const part = partOf(path);
  mkdirSync(part, { recursive: true });
  if (origin) writeAtomic(join(part, originName), `${JSON.stringify(origin)}\n`);
  const present = readdirSync(part, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  for (const { name } of present) removeTemporaries(join(part, name));
  const done = present.reduce(
    (sum, { name }) => sum + readdirSync(join(part, name)).filter(isImage).length,
    0,
  );
  return {
    done,
    add: ({ bytes, identity, name }) =>
      writing(path, () => {
        if (identity === '' || /[/\\\0]|^\.\.?$/.test(identity))
          throw new UserError(`an identity named "${identity}" makes no folder`);
        const folder = join(part, identity);
        mkdirSync(folder, { recursive: true });
        // A name that has a file's extension keeps it.
        const known = imageExtensions.includes(extname(name).toLowerCase());
        const file = known ? name.replaceAll('/', '_') : name + extensionOf(bytes);
        const extension = extname(file);
        // Images of one identity from several places, or 1.png and 1.jpg aligned, can have the same name.
        let free = file;
        for (let n = 2; existsSync(join(folder, free)); n++)
          free = `${basename(file, extension)}-${n}${extension}`;
        writeAtomic(join(folder, free), bytes);
      }),
    finish: () =>
      writing(path, () => {
        if (existsSync(path)) rmdirSync(path); // it was empty
        renameSync(part, path);
        rmSync(join(path, originName), { force: true });
        return undefined;
      }),
    discard: () => rmSync(part, { recursive: true, force: true }),
  };
}
const isImage = (file: string) => imageExtensions.includes(extname(file).toLowerCase());

/** InsightFace's layout: record 0, images from 1, then the identities' ranges; index and property beside it. */
function recordWriter(path: string, size: number, origin?: Origin): ArchiveWriter {
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
  const text =
    `${JSON.stringify(origin ?? null)}\n` +
    starts.map((start, i) => `${i + 1}\t${start}\t${labels[i]}\n`).join('');
  ftruncateSync(index, 0);
  writeSync(index, text, 0);
  writeSync(file, zero, 0, zero.length, 0);
  let indexEnd = Buffer.byteLength(text);
  return {
    done: starts.length,
    add: ({ bytes, label }) =>
      writing(path, () => {
        const line = `${starts.length + 1}\t${end}\t${label}\n`;
        const data = imageRecord(
          Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength),
          label,
          starts.length + 1,
        );
        writeSync(file, data, 0, data.length, end);
        writeSync(index, line, indexEnd);
        indexEnd += line.length;
        starts.push(end);
        labels.push(label);
        end += data.length;
      }),
    finish: () =>
      writing(path, () => {
        const identities: string[] = [];
        const first = starts.length + 1;
        for (let i = 0; i < labels.length;) {
          let j = i;
          while (j < labels.length && labels[j] === labels[i]) j++;
          const data = record(header([i + 1, j + 1], first + identities.length));
          writeSync(file, data, 0, data.length, end);
          identities.push(`${first + identities.length}\t${end}\n`);
          end += data.length;
          i = j;
        }
        const head = record(header([first, first + identities.length], 0));
        writeSync(file, head, 0, head.length, 0);
        fsyncSync(file);
        closeSync(file);
        closeSync(index);
        const all = ['0\t0\n', ...starts.map((start, i) => `${i + 1}\t${start}\n`), ...identities];
        writeAtomic(indexOf(path), all.join(''));
        const note = writeProperty(path, `${identities.length},${size},${size}`);
        renameSync(part, path);
        rmSync(indexPart);
        return note;
      }),
    discard: () => {
      closeSync(file);
      closeSync(index);
      for (const left of [part, indexPart]) rmSync(left, { force: true });
    },
  };
}

/** Writes `property` beside a .rec. It has one name for a whole folder, so it is written only where there is no other, and no other .rec. */
function writeProperty(path: string, text: string): string | undefined {
  const folder = dirname(path);
  const file = join(folder, 'property');
  if (existsSync(file)) {
    const found = readFileSync(file, 'utf8').trim();
    return found === text
      ? undefined
      : `${file} was left as it is: it says "${found.slice(0, 60)}", and of ${path} it would say "${text}"`;
  }
  const names = [basename(path), partOf(basename(path))];
  if (readdirSync(folder).some((name) => /\.rec(\.part)?$/.test(name) && !names.includes(name)))
    return `${file} was not written: there are several .rec in ${folder}, and it can be right for one of them only`;
  writeAtomic(file, `${text}\n`);
  return undefined;
}

/** A verification set; started anew after a stop. */
function binFile(path: string): ArchiveWriter {
  const part = partOf(path);
  const file = openSync(part, 'w');
  writeSync(file, binWriter.head);
  let count = 0;
  return {
    done: 0,
    add: ({ bytes }) =>
      writing(path, () => {
        writeSync(file, binWriter.image(bytes));
        count++;
      }),
    finish: (genuine) =>
      writing(path, () => {
        if (!genuine || 2 * genuine.length !== count)
          throw new UserError(
            `${path}: a verification set needs pairs, two images for each: expected another .bin to pack from`,
          );
        writeSync(file, binWriter.tail(genuine));
        fsyncSync(file);
        closeSync(file);
        renameSync(part, path);
        return undefined;
      }),
    discard: () => {
      closeSync(file);
      rmSync(part, { force: true });
    },
  };
}

/** Columns image (bytes, not compressed again), label and name; started anew after a stop. */
function parquetFile(path: string): ArchiveWriter {
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
    async add(image) {
      rows.push({ ...image, bytes: Uint8Array.from(image.bytes) });
      if (rows.length === 1000) await writeRows();
    },
    async finish() {
      await writeRows();
      await parquet.finish();
      writing(path, () => renameSync(part, path));
      return undefined;
    },
    discard: () => rmSync(part, { force: true }),
  };
}
