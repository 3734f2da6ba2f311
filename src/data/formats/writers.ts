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
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname, extname, join } from 'node:path';
import { fileWriter, ParquetWriter } from 'hyparquet-writer';
import { UserError } from '../../tensor/errors.js';
import { explainFileError, writeAtomic } from '../../train/atomic.js';
import { imageExtensions } from '../image-file.js';
import { archiveKind } from './archive.js';
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
  /** Makes the set whole. @param genuine of a verification set, for each two images whether they show one person */
  finish(genuine?: readonly boolean[]): void | Promise<void>;
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

/** Opens what `path` names to be written; refuses to write over what is there. @param size side of the images in pixels, for `property` */
export function createArchive(path: string, size: number): ArchiveWriter {
  const kind = archiveKind(path);
  if (existsSync(path) && !(kind === 'folder' && readdirSync(path).length === 0))
    throw new UserError(`${path} is there already: expected a new name`);
  try {
    mkdirSync(dirname(path), { recursive: true });
    switch (kind) {
      case 'folder':
        return folderWriter(path);
      case 'recordio':
        return recordWriter(path, size);
      case 'bin':
        return binFile(path);
      case 'parquet':
        return parquetFile(path);
      case 'list':
        throw new UserError(
          `a list holds no images: expected a folder, .rec, .bin or .parquet to write, got ${path}`,
        );
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

const partOf = (path: string) => `${path}.part`;

function folderWriter(path: string): ArchiveWriter {
  const part = partOf(path);
  mkdirSync(part, { recursive: true });
  const present = readdirSync(part, { withFileTypes: true }).filter((entry) => entry.isDirectory());
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
        writeAtomic(join(folder, known ? name.replaceAll('/', '_') : name + extensionOf(bytes)), bytes);
      }),
    finish: () =>
      writing(path, () => {
        rmSync(path, { recursive: true, force: true });
        renameSync(part, path);
      }),
  };
}
const isImage = (file: string) => imageExtensions.includes(extname(file).toLowerCase());

/** InsightFace's layout: record 0, images from 1, then the identities' ranges; index and property beside it. */
function recordWriter(path: string, size: number): ArchiveWriter {
  const part = partOf(path);
  const indexPart = `${path.replace(/\.rec$/, '.idx')}.part`;
  // What an earlier attempt wrote whole is kept: lines of the index that end, and the records before the last one of them.
  const lines =
    existsSync(indexPart) && existsSync(part) ? readFileSync(indexPart, 'utf8').split('\n').slice(0, -1) : [];
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
  const text = starts.map((start, i) => `${i + 1}\t${start}\t${labels[i]}\n`).join('');
  ftruncateSync(index, 0);
  writeSync(index, text, 0);
  writeSync(file, zero, 0, zero.length, 0);
  let indexEnd = text.length;
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
        writeAtomic(path.replace(/\.rec$/, '.idx'), all.join(''));
        writeAtomic(join(dirname(path), 'property'), `${identities.length},${size},${size}\n`);
        renameSync(part, path);
        rmSync(indexPart);
      }),
  };
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
      }),
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
    },
  };
}
