/**
 * Soft labels of mined variations (§3.4): for each image the probability of each of T attributes, NaN where it is not known.
 * Their file is a table, image and attributes in its first line, written by `turl mine label`:
 *
 *     image,Smiling,Young,Male
 *     1/000023.jpg,0.9312,0.8807,0.0021
 *
 * An image has the name that it has in its set: its path below the folder, or its number in a file.
 */
import { createReadStream, createWriteStream, existsSync, renameSync, rmSync } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { format, parse } from 'fast-csv';
import { UserError } from '../tensor/errors.js';
import { explainFileError } from '../train/atomic.js';
import type { FaceSet } from './face-set.js';

export class SoftLabels {
  constructor(
    /** The attributes. */
    readonly names: readonly string[],
    /** [images, T] */
    readonly values: Float32Array,
  ) {}

  /** Those of a set's images, from a table of all items of its source. */
  static ofItems(names: readonly string[], table: Float32Array, { data }: FaceSet): SoftLabels {
    return new SoftLabels(names, rowsOf(table, names.length, data.items));
  }

  /** [n, T] of some images. */
  rows(images: Int32Array): Float32Array {
    return rowsOf(this.values, this.names.length, images);
  }

  /** Images of which nothing is known. */
  get missing(): number {
    const width = this.names.length;
    let missing = 0;
    for (let at = 0; at < this.values.length; at += width)
      if (this.values.subarray(at, at + width).every(Number.isNaN)) missing++;
    return missing;
  }
}

function rowsOf(table: Float32Array, width: number, rows: Int32Array): Float32Array {
  const found = new Float32Array(rows.length * width);
  rows.forEach((row, i) => found.set(table.subarray(row * width, (row + 1) * width), i * width));
  return found;
}

/** The labels of `faces` from a file; rows of other images are passed over. */
export async function readSoftLabels(
  file: string,
  names: readonly string[],
  faces: FaceSet,
): Promise<SoftLabels> {
  if (!existsSync(file))
    throw new UserError(`mined.labels: expected a table of soft labels, found none at ${file}`);
  const places = new Map(Array.from({ length: faces.images }, (_, image) => [faces.imageKey(image), image]));
  const values = new Float32Array(faces.images * names.length).fill(NaN);
  let columns: number[] | undefined;
  let [line, known] = [0, 0];
  const probability = (text: string | undefined): number => {
    const value = text === undefined || text === '' ? NaN : Number(text);
    if (text === undefined || (text !== '' && !(value >= 0 && value <= 1)))
      throw new UserError(
        `${file}:${line}: expected probabilities from 0 to 1, found ${JSON.stringify(text ?? '')}`,
      );
    return value;
  };
  try {
    for await (const row of createReadStream(file).pipe(parse<string[], string[]>())) {
      const cells = row as string[];
      line++;
      if (!columns) {
        columns = names.map((name) => cells.indexOf(name));
        const absent = names.filter((name) => !cells.includes(name));
        if (cells[0] !== 'image' || absent.length > 0)
          throw new UserError(
            `${file}:1: expected the columns image, ${names.join(', ')}, found ${cells.join(', ').slice(0, 80)}`,
          );
        continue;
      }
      const image = places.get(cells[0] ?? '');
      if (image === undefined) continue;
      known++;
      values.set(
        columns.map((column) => probability(cells[column])),
        image * names.length,
      );
    }
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(`${file}:${line + 1}: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (known === 0)
    throw new UserError(
      `${file}: expected labels of the training images, such as ${faces.imageKey(0)}, found none of them`,
    );
  return new SoftLabels(names, values);
}

/** Writes labels of images as they come: each a batch from `start` on, with values [count, T]. */
export async function writeSoftLabels(
  file: string,
  names: readonly string[],
  faces: FaceSet,
  batches: AsyncIterable<{ start: number; values: Float32Array }>,
): Promise<void> {
  const part = `${file}.part`;
  const rows = async function* () {
    for await (const { start, values } of batches)
      for (let i = 0; i * names.length < values.length; i++)
        yield [
          faces.imageKey(start + i),
          ...Array.from(values.subarray(i * names.length, (i + 1) * names.length), (p) => p.toFixed(4)),
        ];
  };
  try {
    await pipeline(
      rows(),
      format({ headers: ['image', ...names], includeEndRowDelimiter: true }),
      createWriteStream(part),
    );
    renameSync(part, file);
  } catch (error) {
    rmSync(part, { force: true });
    throw explainFileError(error, `write ${file}`);
  }
}
