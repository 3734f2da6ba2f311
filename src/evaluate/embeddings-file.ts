/**
 * Embeddings with their confidences, identities and image names in files: safetensors (everything in one, and what `turl eval` reads
 * again), NumPy arrays with a table of the images beside them, or CSV.
 */
import { closeSync, createWriteStream, openSync, rmSync } from 'node:fs';
import { basename, dirname, extname, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { format } from 'fast-csv';
import * as z from 'zod';
import { UserError } from '../tensor/errors.js';
import { checkOutput, replaceFile, replaceFiles, writeAll } from '../train/atomic.js';
import { bytesInParts, readSafetensors, writeSafetensors, type TensorSource } from '../train/safetensors.js';
import { unusableRow, type Features } from './scores.js';

export interface Embeddings {
  readonly features: Features;
  /** Of each image: its name in its set, and its identity's, empty where it is not known. */
  readonly names: readonly string[];
  readonly identities: readonly string[];
  /** How they were made: model, input, flip; goes into the safetensors file. */
  readonly about: Readonly<Record<string, string>>;
}

export const embeddingFormats = ['.safetensors', '.npy', '.csv'] as const;

/** Told before the work, not after. */
export const checkEmbeddingsPath = (file: string): void => checkOutput('--out', file, embeddingFormats);

/** Writes the file and gives the names of all that were written. */
export async function writeEmbeddings(file: string, embeddings: Embeddings): Promise<string[]> {
  checkEmbeddingsPath(file);
  if (extname(file) === '.safetensors') {
    writeTensors(file, embeddings);
    return [file];
  }
  if (extname(file) === '.csv') {
    await replaceFile(file, (temporary) => writeTable(temporary, embeddings, true));
    return [file];
  }
  const { embedding, confidence, size, groups } = embeddings.features;
  const beside = (name: string) => join(dirname(file), `${basename(file, '.npy')}.${name}`);
  const fills = new Map<string, (temporary: string) => void | Promise<void>>([
    [beside('images.csv'), (temporary) => writeTable(temporary, embeddings, false)],
    [file, (temporary) => writeArray(temporary, embedding, size)],
  ]);
  if (confidence)
    fills.set(beside('confidence.npy'), (temporary) => writeArray(temporary, confidence, groups));
  await replaceFiles(fills);
  // Those of an earlier model would be taken for this one's.
  if (!confidence) rmSync(beside('confidence.npy'), { force: true });
  return [...fills.keys()];
}

function writeTensors(file: string, { features, names, identities, about }: Embeddings): void {
  const { embedding, confidence, size, groups } = features;
  const images = names.length;
  const tensors = new Map<string, TensorSource>([
    ['embedding', { dtype: 'float32', shape: [images, size], data: () => bytesInParts(embedding) }],
  ]);
  if (confidence)
    tensors.set('confidence', {
      dtype: 'float32',
      shape: [images, groups],
      data: () => bytesInParts(confidence),
    });
  // Names may be many: they are a tensor, not metadata, which every reader has to take whole.
  const text = Buffer.from(JSON.stringify({ names, identities }));
  tensors.set('images', { dtype: 'uint8', shape: [text.length], data: text });
  writeSafetensors(file, tensors, { ...about, format: 'turl embeddings 1', groups: String(groups) });
}

/** NumPy's format 1.0: float32, little-endian, C order. */
function writeArray(file: string, values: Float32Array, columns: number): void {
  const shape = `(${values.length / columns}, ${columns})`;
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': ${shape}, }`;
  const length = Math.ceil((10 + text.length + 1) / 64) * 64 - 10;
  const head = Buffer.alloc(10 + length, ' ');
  head.write('\x93NUMPY\x01\x00', 'latin1');
  head.writeUInt16LE(length, 8);
  head.write(text, 10);
  head.write('\n', 10 + length - 1);
  const descriptor = openSync(file, 'w');
  try {
    writeAll(descriptor, head);
    for (const part of bytesInParts(values)) writeAll(descriptor, part);
  } finally {
    closeSync(descriptor);
  }
}

async function writeTable(file: string, embeddings: Embeddings, values: boolean): Promise<void> {
  const { features, names, identities } = embeddings;
  const { embedding, confidence, size, groups } = features;
  // Nine digits tell every float32 from its neighbours.
  const numbers = (prefix: string, array: Float32Array, row: number, width: number) =>
    Object.fromEntries(
      Array.from({ length: width }, (_, i) => [
        `${prefix}${i}`,
        Number((array[row * width + i] ?? NaN).toPrecision(9)),
      ]),
    );
  const lines = function* () {
    for (let row = 0; row < names.length; row++)
      yield {
        image: names[row],
        identity: identities[row],
        ...(values && confidence ? numbers('s', confidence, row, groups) : {}),
        ...(values ? numbers('f', embedding, row, size) : {}),
      };
  };
  await pipeline(
    Readable.from(lines()),
    format({ headers: true, includeEndRowDelimiter: true }),
    createWriteStream(file),
  );
}

const imagesSchema = z.object({ names: z.array(z.string()), identities: z.array(z.string()) });

/** Reads what `turl embed --out FILE.safetensors` wrote. */
export function readEmbeddings(file: string): Embeddings {
  const expected = `${file}: expected embeddings written by turl embed --out FILE.safetensors`;
  const { tensors, metadata } = readSafetensors(file);
  const { format, groups: count, ...about } = metadata;
  const [embedding, confidence, images] = ['embedding', 'confidence', 'images'].map((name) =>
    tensors.get(name),
  );
  const groups = Number(count);
  if (format !== 'turl embeddings 1' || embedding?.dtype !== 'float32' || !images || !(groups >= 1))
    throw new UserError(`${expected}, found ${format ?? 'something else'}`);
  const floats = ({ data }: { data: Uint8Array }) => new Float32Array(data.buffer);
  const parsed = imagesSchema.safeParse(parseJson(Buffer.from(images.data).toString()));
  const [rows = 0, size = 0] = embedding.shape;
  if (!parsed.success || parsed.data.names.length !== rows || parsed.data.identities.length !== rows)
    throw new UserError(`${expected}, found no names for its ${rows} images`);
  if (size % groups !== 0 || (confidence && (confidence.shape[0] !== rows || confidence.shape[1] !== groups)))
    throw new UserError(
      `${expected}, found [${embedding.shape.join(', ')}] in ${groups} groups with confidences [${confidence?.shape.join(', ') ?? ''}]`,
    );
  const features = {
    embedding: floats(embedding),
    confidence: confidence && floats(confidence),
    size,
    groups,
  };
  const row = unusableRow(features);
  if (row !== undefined)
    throw new UserError(
      `${file}: expected finite embeddings, and finite confidences above 0, found others for image ${parsed.data.names[row] ?? row}`,
    );
  return { features, ...parsed.data, about };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
