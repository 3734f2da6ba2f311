// What worker threads do for the data layer: check files, render faces ahead, fill batches. The same code runs in the main thread
// when there are no workers.
import { createHash } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { UserError } from '../tensor/errors.js';
import { FaceSet, openReader, trainingYaw, type FaceSetData } from './face-set.js';
import { contentHash } from '../pose/mesh-file.js';
import { openSource, sourceLength, type ImageSource } from './formats/image-source.js';
import { cutOff, decodePixels, imageFault } from './image-file.js';
import { shareArrays } from './shared-memory.js';

/** What `describe` tells of an image: sums over its pixels are by channel (red, green, blue). */
export type ImageFacts = { readonly hash: string; readonly bytes: number } & (
  | { readonly fault: string }
  | {
      readonly fault: null;
      readonly width: number;
      readonly height: number;
      readonly sums: readonly number[];
      readonly squares: readonly number[];
      /** Means over the middle ninth, where a face's skin is. */
      readonly middle: readonly number[];
    }
);

/** An image as pixels with the first bytes of its content's hash, or why it cannot be decoded. */
export type DecodedImage =
  | { readonly fault: string }
  | {
      readonly fault: null;
      readonly width: number;
      readonly height: number;
      readonly pixels: Uint8Array;
      readonly hash: Uint8Array;
    };

export type Job =
  /** Decodes images of the source from `begin` to `end`. */
  | { readonly kind: 'check'; readonly begin: number; readonly end: number }
  /** The same, and what they are. */
  | { readonly kind: 'describe'; readonly begin: number; readonly end: number }
  /** Gives the pixels of images of the source from `begin` to `end`, as they are stored or turned upright. */
  | { readonly kind: 'decode'; readonly begin: number; readonly end: number; readonly upright: boolean }
  /** Renders images into the set's memory; with a range of yaw also their turned versions. */
  | {
      readonly kind: 'render';
      readonly images: readonly number[];
      readonly seed: number;
      readonly yaw: readonly [number, number] | null;
    }
  /** Fills one slot of the ring; a yaw that is not NaN asks for the turned version. */
  | { readonly kind: 'fill'; readonly slot: number; readonly images: Int32Array; readonly yaw: Float32Array };

/** What a worker is started with. */
export interface Materials {
  readonly faces?: FaceSetData;
  readonly ring?: SharedArrayBuffer;
  /** What to check. */
  readonly source?: ImageSource;
}

/** What a job gives: for each image, what is wrong with it, or null (`check`), its facts (`describe`), or its pixels (`decode`); nothing of the others. */
export interface JobResults {
  check: (string | null)[];
  describe: ImageFacts[];
  decode: DecodedImage[];
  render: null;
  fill: null;
}
export type JobResult = JobResults[Job['kind']];

function factsOf(bytes: Buffer): ImageFacts {
  const common = { hash: createHash('sha1').update(bytes).digest('hex'), bytes: bytes.length };
  const fault = imageFault(bytes);
  if (fault !== null) return { ...common, fault };
  const { width, height, pixels } = decodePixels(bytes);
  const [sums, squares, middle] = [
    [0, 0, 0],
    [0, 0, 0],
    [0, 0, 0],
  ] as [number[], number[], number[]];
  const inside = (at: number, side: number) => at >= side / 3 && at < (2 * side) / 3;
  let count = 0;
  for (let y = 0, i = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const central = inside(x, width) && inside(y, height);
      if (central) count++;
      for (let c = 0; c < 3; c++, i++) {
        const value = pixels[i] ?? 0;
        sums[c] = (sums[c] ?? 0) + value;
        squares[c] = (squares[c] ?? 0) + value * value;
        if (central) middle[c] = (middle[c] ?? 0) + value;
      }
    }
  return {
    ...common,
    fault: null,
    width,
    height,
    sums,
    squares,
    middle: middle.map((m) => m / Math.max(1, count)),
  };
}

/** Images in one job. */
export const stretch = 64;

/** Tells what each image of a source is, as worker threads find it; nothing of it is kept, of which millions of images would make gigabytes. */
export async function describeImages(
  source: ImageSource,
  {
    workers = availableParallelism(),
    onProgress,
  }: { workers?: number; onProgress?: (done: number, total: number) => void },
  onFacts: (facts: ImageFacts, image: number) => void,
): Promise<void> {
  const total = sourceLength(source);
  const pool = new WorkerPool(workers, { source });
  let done = 0;
  const jobs = function* () {
    for (let begin = 0; begin < total; begin += stretch)
      yield { kind: 'describe', begin, end: Math.min(total, begin + stretch) } as const;
  };
  try {
    await pool.runAll(jobs(), (found, { begin, end }) => {
      found.forEach((facts, i) => onFacts(facts, begin + i));
      done += end - begin;
      onProgress?.(done, total);
    });
  } finally {
    await pool.close();
  }
}

/** The function that does jobs with these materials. */
export function jobHandler({ faces, ring, source }: Materials): (job: Job) => JobResult {
  const opened = source && openSource(source);
  const encoded = () => {
    if (!opened) throw new Error('a job without a source');
    return opened;
  };
  const each = <T>({ begin, end }: { begin: number; end: number }, f: (item: number) => T): T[] =>
    Array.from({ length: end - begin }, (_, i) => f(begin + i));
  const set = faces && new FaceSet(faces);
  const reader = set && openReader(set);
  // Rendering ahead must not read what it is about to write.
  const maker = faces && openReader(new FaceSet({ ...faces, rendered: null }));
  return (job) => {
    if (job.kind === 'check') {
      return each(job, (item) => {
        try {
          return imageFault(encoded().bytes(item));
        } catch (error) {
          return error instanceof Error ? error.message : String(error);
        }
      });
    }
    if (job.kind === 'describe')
      return each(job, (item) => {
        try {
          return factsOf(encoded().bytes(item));
        } catch (error) {
          return { hash: '', bytes: 0, fault: error instanceof Error ? error.message : String(error) };
        }
      });
    if (job.kind === 'decode')
      return each(job, (item): DecodedImage => {
        try {
          const bytes = encoded().bytes(item);
          const fault = cutOff(bytes);
          if (fault !== null) return { fault };
          return { fault: null, ...decodePixels(bytes, job.upright), hash: contentHash(bytes) };
        } catch (error) {
          return { fault: error instanceof Error ? error.message : String(error) };
        }
      });
    if (!set || !reader || !maker) throw new Error(`a ${job.kind} job without faces`);
    const bytes = set.size * set.size * 3;
    const rendered = set.data.rendered;
    if (job.kind === 'render') {
      if (!rendered) throw new Error('a render job without memory');
      for (const image of job.images) {
        maker.read(image, new Uint8Array(rendered.pixels, image * bytes, bytes));
        if (rendered.turned && job.yaw)
          maker.read(
            image,
            new Uint8Array(rendered.turned, image * bytes, bytes),
            trainingYaw(job.seed, set.data.items[image] ?? 0, job.yaw),
          );
      }
      return null;
    }
    if (!ring) throw new Error('a fill job without a ring');
    job.images.forEach((image, i) => {
      const out = new Uint8Array(ring, (job.slot * job.images.length + i) * bytes, bytes);
      const yaw = job.yaw[i] ?? NaN;
      if (Number.isNaN(yaw)) reader.read(image, out);
      else reader.readTurned(image, out, yaw);
    });
    return null;
  };
}

interface Waiting {
  readonly job: Job;
  readonly resolve: (result: JobResult) => void;
  readonly reject: (error: Error) => void;
}

/** A worker's answer to a job. */
export type Answer = { readonly result: JobResult } | { readonly error: string; readonly user: boolean };

/** Threads that do jobs in the order given, each one job at a time; with 0 workers the calling thread does them. */
export class WorkerPool {
  readonly #workers: Worker[] = [];
  readonly #idle: Worker[] = [];
  readonly #queue: Waiting[] = [];
  readonly #busy = new Map<Worker, Waiting>();
  readonly #inline: ((job: Job) => JobResult) | undefined;
  #failure: Error | undefined;

  constructor(workers: number, materials: Materials) {
    if (workers === 0) this.#inline = jobHandler(materials);
    const workerData = workers === 0 ? undefined : shareArrays(materials);
    for (let i = 0; i < workers; i++) {
      const worker = new Worker(new URL('./worker.js', import.meta.url), { workerData });
      worker.on('message', (answer: Answer) => this.#finish(worker, answer));
      worker.on('error', (error: Error) => this.#fail(error));
      this.#workers.push(worker);
      this.#idle.push(worker);
    }
  }

  /** Does a job, now or when a worker is free. */
  run<J extends Job>(job: J): Promise<JobResults[J['kind']]>;
  run(job: Job): Promise<JobResult> {
    const inline = this.#inline;
    if (inline) return Promise.resolve().then(() => inline(job));
    if (this.#failure) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#queue.push({ job, resolve, reject });
      this.#dispatch();
    });
  }

  /** Does the jobs, in the order given, and tells of each when it is done. Few wait at a time: a queue of a hundred thousand is slow. */
  async runAll<J extends Job>(
    jobs: Iterable<J>,
    onResult: (result: JobResults[J['kind']], job: J) => void,
  ): Promise<void> {
    const left = jobs[Symbol.iterator]();
    const lane = async () => {
      for (let next = left.next(); next.done !== true; next = left.next())
        onResult(await this.run(next.value), next.value);
    };
    await Promise.all(Array.from({ length: 2 * Math.max(1, this.#workers.length) }, lane));
  }

  /** Stops the threads; jobs that have not ended never will. */
  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }

  // A thread that died (out of memory, a crash in a decoder) ends the pool: its job would be missing.
  #fail(error: Error): void {
    this.#failure = error;
    for (const waiting of [...this.#busy.values(), ...this.#queue]) waiting.reject(error);
    this.#busy.clear();
    this.#queue.length = 0;
  }

  #dispatch(): void {
    while (this.#queue.length > 0) {
      const worker = this.#idle.pop();
      if (!worker) return;
      const waiting = this.#queue.shift();
      if (!waiting) return;
      this.#busy.set(worker, waiting);
      worker.postMessage(waiting.job);
    }
  }

  #finish(worker: Worker, answer: Answer): void {
    const waiting = this.#busy.get(worker);
    this.#busy.delete(worker);
    this.#idle.push(worker);
    if ('error' in answer)
      waiting?.reject(answer.user ? new UserError(answer.error) : new Error(answer.error));
    else waiting?.resolve(answer.result);
    this.#dispatch();
  }
}
