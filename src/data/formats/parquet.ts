/**
 * Parquet with a column of encoded images and one of labels, as data hubs keep them: the image as bytes, or as a struct with the field
 * `bytes`. Its pages are compressed and serve no random access, so the images are unpacked once, a row group at a time, into one file
 * in the cache, which is named by the path and holds as long as size and time of change of the Parquet file do.
 */
import { createHash } from 'node:crypto';
import { readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Worker } from 'node:worker_threads';
import * as z from 'zod';
import { UserError } from '../../tensor/errors.js';
import { isRunning } from '../../train/run-lock.js';
import { readSafetensors, writeSafetensors } from '../../train/safetensors.js';
import { cacheFolder, writableCache } from '../cache.js';
import type { Archive } from './archive.js';
import { numberIdentities } from './identities.js';
import type { UnpackAnswer, Unpacked, UnpackRequest } from './parquet-worker.js';

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
        reject(new UserError(`${request.file}: expected a whole Parquet file: ${reason}`));
      };
      const wait = () => {
        clearTimeout(timer);
        timer = setTimeout(
          () => end(`no row group could be read within ${this.patience / 1000} seconds: it is damaged`),
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
  stamp: z.string(),
});

interface Contents extends Pick<Archive, 'labels' | 'names'> {
  starts: Float64Array;
  lengths: Int32Array;
}

/** What the index says of a Parquet file in the state `stamp`, if the images are there as it says. */
function recall(index: string, images: string, stamp: string): Contents | undefined {
  try {
    const { tensors, metadata } = readSafetensors(index);
    const known = stored.parse(metadata);
    const bytes = (name: string): ArrayBuffer => {
      const data = tensors.get(name)?.data ?? new Uint8Array();
      return data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength) as ArrayBuffer;
    };
    const starts = new Float64Array(bytes('starts'));
    const lengths = new Int32Array(bytes('lengths'));
    const end = (starts.at(-1) ?? 0) + (lengths.at(-1) ?? 0);
    if (known.stamp !== stamp || statSync(images).size !== end) return undefined;
    return { starts, lengths, labels: new Int32Array(bytes('labels')), names: known.names };
  } catch {
    return undefined; // there is none, or it is damaged
  }
}

/** Removes what processes that were stopped while unpacking left behind. */
function removeParts(cache: string): void {
  for (const name of readdirSync(cache)) {
    const [, pid] = /^parquet-\w+\.images\.(\d+)\.part$/.exec(name) ?? [];
    if (pid !== undefined && !isRunning(Number(pid))) rmSync(join(cache, name), { force: true });
  }
}

export async function openParquet(
  file: string,
  { cache = cacheFolder, unpacker = new ParquetUnpacker() } = {},
): Promise<Archive> {
  const { size, mtimeMs } = statSync(file);
  // What marks both its ends, and the length of what it says of itself.
  if (size < 12) throw new UserError(`${file}: expected a Parquet file, found ${size} bytes`);
  const stamp = `${size} ${mtimeMs}`;
  const key = createHash('sha1').update(resolve(file)).digest('hex').slice(0, 16);
  const folder = writableCache(cache);
  const index = join(folder, `parquet-${key}.safetensors`);
  const images = join(folder, `parquet-${key}.images`);
  let known = recall(index, images, stamp);
  if (!known) {
    removeParts(folder);
    const part = `${images}.${process.pid}.part`;
    const unpack = async (): Promise<Unpacked> => {
      const found = await unpacker.run({ file, to: part }).finally(() => unpacker.close());
      if (found.labels.length === 0) throw new UserError(`${file}: expected images, found none`);
      return found;
    };
    const found = await unpack().catch((error: unknown) => {
      rmSync(part, { force: true });
      throw error;
    });
    known = { starts: found.starts, lengths: found.lengths, ...numberIdentities(found.labels) };
    // An index must never lie beside images that it does not describe.
    rmSync(index, { force: true });
    renameSync(part, images);
    const shape = [known.labels.length];
    const bytes = ({ buffer, byteOffset, byteLength }: Float64Array | Int32Array) =>
      new Uint8Array(buffer, byteOffset, byteLength);
    writeSafetensors(
      index,
      new Map([
        ['starts', { dtype: 'float64', shape, data: bytes(known.starts) }],
        ['lengths', { dtype: 'int32', shape, data: bytes(known.lengths) }],
        ['labels', { dtype: 'int32', shape, data: bytes(known.labels) }],
      ]),
      { names: JSON.stringify(known.names), stamp },
    );
  }
  const { starts, lengths, labels, names } = known;
  return {
    kind: 'parquet',
    path: file,
    source: { kind: 'slices', file: images, table: file, memory: null, starts, lengths },
    labels,
    names,
    notes: [],
  };
}
