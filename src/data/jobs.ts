// What worker threads do for the data layer: check files, render faces ahead, fill batches. The same code runs in the main thread
// when there are no workers.
import { readFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { UserError } from '../tensor/errors.js';
import { FaceSet, openReader, trainingYaw, type FaceSetData } from './face-set.js';
import { imageFault } from './image-file.js';

export type Job =
  | { readonly kind: 'check'; readonly files: readonly string[] }
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
  readonly faces: FaceSetData | null;
  readonly ring: SharedArrayBuffer | null;
}

/** For `check`: for each file, what is wrong with it, or null. Nothing for the other jobs. */
export type JobResult = (string | null)[] | null;

function checkFile(file: string): string | null {
  try {
    return imageFault(readFileSync(file));
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** The function that does jobs with these materials. */
export function jobHandler({ faces, ring }: Materials): (job: Job) => JobResult {
  const set = faces && new FaceSet(faces);
  const reader = set && openReader(set);
  // Rendering ahead must not read what it is about to write.
  const maker = faces && openReader(new FaceSet({ ...faces, rendered: null }));
  return (job) => {
    if (job.kind === 'check') return job.files.map(checkFile);
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
    for (let i = 0; i < workers; i++) {
      const worker = new Worker(new URL('./worker.js', import.meta.url), { workerData: materials });
      worker.on('message', (answer: Answer) => this.#finish(worker, answer));
      worker.on('error', (error: Error) => this.#fail(error));
      this.#workers.push(worker);
      this.#idle.push(worker);
    }
  }

  /** Does a job, now or when a worker is free. */
  run(job: Job): Promise<JobResult> {
    const inline = this.#inline;
    if (inline) return Promise.resolve().then(() => inline(job));
    if (this.#failure) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#queue.push({ job, resolve, reject });
      this.#dispatch();
    });
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
