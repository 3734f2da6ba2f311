/**
 * Parquet with a column of encoded images and one of labels, as data hubs keep them: the image as bytes, or as a struct with the field
 * `bytes`. Its pages are compressed and serve no random access, so the images are unpacked once, a row group at a time, into one file
 * in the cache; what is remembered of it goes by path, size and time of change.
 */
import { createHash } from 'node:crypto';
import { existsSync, renameSync, rmSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Worker } from 'node:worker_threads';
import * as z from 'zod';
import { UserError } from '../../tensor/errors.js';
import { makeFolder } from '../../train/atomic.js';
import { readSafetensors, writeSafetensors } from '../../train/safetensors.js';
import type { Archive } from './archive.js';
import { byName } from './folder.js';
import type { UnpackAnswer, Unpacked, UnpackRequest } from './parquet-worker.js';

export const cacheFolder = '.turl-cache';

/** A row group that takes longer will never end. */
const longest = 120_000; // milliseconds

/** A thread that unpacks one file at a time; one that fell silent is replaced. */
export class ParquetUnpacker {
  #worker: Worker | undefined;

  constructor(readonly patience = longest) {}

  run(request: UnpackRequest): Promise<Unpacked> {
    const worker = (this.#worker ??= new Worker(new URL('./parquet-worker.js', import.meta.url)));
    return new Promise((resolve, reject) => {
      let timer: NodeJS.Timeout;
      const end = (reason: string) => {
        clearTimeout(timer);
        worker.removeAllListeners();
        worker.on('error', () => undefined);
        this.#worker = undefined;
        void worker.terminate();
        reject(new UserError(reason));
      };
      const wait = () => {
        clearTimeout(timer);
        timer = setTimeout(
          () => end(`no row group could be read within ${this.patience / 1000} seconds: the file is damaged`),
          this.patience,
        );
      };
      wait();
      worker.removeAllListeners();
      worker.on('error', (error) => end(error.message));
      worker.on('message', (answer: UnpackAnswer) => {
        if ('alive' in answer) return wait();
        clearTimeout(timer);
        if ('error' in answer) reject(new UserError(answer.error));
        else resolve(answer.unpacked);
      });
      worker.postMessage(request);
    });
  }

  async close(): Promise<void> {
    await this.#worker?.terminate();
    this.#worker = undefined;
  }
}

const stored = z.object({
  names: z.string().transform((text) => z.array(z.string()).parse(JSON.parse(text))),
});

function recall(
  index: string,
  images: string,
): { starts: Float64Array; lengths: Int32Array; labels: Int32Array; names: string[] } | undefined {
  if (!existsSync(index) || !existsSync(images)) return undefined;
  try {
    const { tensors, metadata } = readSafetensors(index);
    const bytes = (name: string): ArrayBuffer => {
      const data = tensors.get(name)?.data ?? new Uint8Array();
      return data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength) as ArrayBuffer;
    };
    return {
      starts: new Float64Array(bytes('starts')),
      lengths: new Int32Array(bytes('lengths')),
      labels: new Int32Array(bytes('labels')),
      names: stored.parse(metadata).names,
    };
  } catch {
    return undefined; // a damaged cache is no cache
  }
}

export async function openParquet(
  file: string,
  { cache = cacheFolder, unpacker = new ParquetUnpacker() } = {},
): Promise<Archive> {
  const { size, mtimeMs } = statSync(file);
  // What marks both its ends, and the length of what it says of itself.
  if (size < 12) throw new UserError(`${file}: expected a Parquet file, found ${size} bytes`);
  const key = createHash('sha1')
    .update(`${resolve(file)} ${size} ${mtimeMs}`)
    .digest('hex')
    .slice(0, 16);
  const index = join(cache, `parquet-${key}.safetensors`);
  const images = join(cache, `parquet-${key}.images`);
  let known = recall(index, images);
  if (!known) {
    makeFolder(cache);
    const part = `${images}.${process.pid}.part`;
    const found = await unpacker
      .run({ file, to: part })
      .catch((error: unknown) => {
        rmSync(part, { force: true });
        const reason = error instanceof Error ? error.message : String(error);
        throw new UserError(
          reason.startsWith(file) ? reason : `${file}: expected a whole Parquet file: ${reason}`,
        );
      })
      .finally(() => unpacker.close());
    if (found.labels.length === 0) throw new UserError(`${file}: expected images, found none`);
    const numeric = found.labels.every((label) => /^\d+$/.test(label));
    const names = [...new Set(found.labels)].sort(numeric ? (a, b) => Number(a) - Number(b) : byName);
    const number = new Map(names.map((name, i) => [name, i]));
    const labels = Int32Array.from(found.labels, (label) => number.get(label) ?? 0);
    renameSync(part, images);
    const shape = [labels.length];
    const bytes = ({ buffer, byteOffset, byteLength }: Float64Array | Int32Array) =>
      new Uint8Array(buffer, byteOffset, byteLength);
    writeSafetensors(
      index,
      new Map([
        ['starts', { dtype: 'float64', shape, data: bytes(found.starts) }],
        ['lengths', { dtype: 'int32', shape, data: bytes(found.lengths) }],
        ['labels', { dtype: 'int32', shape, data: bytes(labels) }],
      ]),
      { names: JSON.stringify(names) },
    );
    known = { starts: found.starts, lengths: found.lengths, labels, names };
  }
  const { starts, lengths, labels, names } = known;
  return {
    kind: 'parquet',
    path: file,
    source: { kind: 'slices', file: images, memory: null, starts, lengths },
    labels,
    names,
    notes: [],
  };
}
