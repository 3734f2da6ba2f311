// Batches of training images, made ahead of the step by worker threads. Which images make a step's batch is a function of the step
// (sampling.ts), and what is done to each is drawn from (seed, epoch, image). So a batch depends on the seed and the step alone,
// whatever the number of workers, and resuming is starting at a step.
import { UserError } from '../tensor/errors.js';
import { augmentColumns, encodeAugmentation } from './augment.js';
import { trainingYaw, type FaceSet } from './face-set.js';
import { WorkerPool } from './jobs.js';
import { sharedMemory } from './shared-memory.js';
import { balancedSampling, shuffledSampling, type Sampling } from './sampling.js';
import { drawVariation, variationNames, type VariationOptions } from './variations.js';

export interface LoaderOptions {
  faces: FaceSet;
  batchSize: number;
  seed: number;
  /** Side of the crop in pixels, at most the images' size. */
  crop: number;
  /** Mirror an image with probability one half. */
  flip: boolean;
  variations: VariationOptions;
  /** P identities with Q images each in a batch, B = P Q; null or absent: shuffled images. */
  sampling?: { identities: number; images: number } | null;
  /** Threads; 0 makes batches in the calling one, when asked. */
  workers?: number;
  /** Batches made ahead. */
  prefetch?: number;
  /** The first step to make; 0 unless a run is resumed. */
  start?: number;
}

/** One batch. Its pixels lie in a ring that is used again: they hold until the next call of next(). */
export interface Batch {
  readonly step: number;
  /** Epoch of the batch's first image, from 0; of P x Q batches the round of identities. */
  readonly epoch: number;
  /** [B, size, size, 3] */
  readonly pixels: Uint8Array;
  /** [B] */
  readonly labels: Int32Array;
  /** [B, augmentColumns]: parameters of the augment kernel. */
  readonly augmentation: Int32Array;
  /** û [B, M]: which variations were applied; 0 or 1. */
  readonly variations: Float32Array;
  /** The images' numbers in the set [B]. */
  readonly images: Int32Array;
}

/** A batch that the workers are filling. */
interface Plan {
  readonly batch: Batch;
  readonly filled: Promise<unknown>;
}

/**
 * Where batches are made ahead, with one slot more: that of the batch that was given out last.
 * @throws UserError when there is no memory for it
 */
export const batchRing = (faces: FaceSet, batchSize: number, prefetch: number): SharedArrayBuffer =>
  sharedMemory(
    (prefetch + 1) * batchSize * faces.size * faces.size * 3,
    `${prefetch + 1} batches of ${batchSize} images (train.batch_size, data.prefetch)`,
  );

/** Makes batches. Call close() at the end. */
export class Loader {
  readonly #options: Required<Omit<LoaderOptions, 'start' | 'sampling'>>;
  readonly #pool: WorkerPool;
  readonly #ring: SharedArrayBuffer;
  readonly #sampling: Sampling;
  readonly #ahead: Plan[] = [];
  #next: number;
  #waited = 0;

  constructor(options: LoaderOptions) {
    const { workers = 2, prefetch = 4, start = 0, faces, batchSize, crop } = options;
    if (crop > faces.size)
      throw new UserError(`expected a crop of at most the images' ${faces.size} pixels, got ${crop}`);
    this.#options = { ...options, workers, prefetch };
    const { sampling, seed } = options;
    if (sampling && sampling.identities * sampling.images !== batchSize)
      throw new UserError(
        `data.sampling: expected ${batchSize} images in a batch, got ${sampling.identities} identities of ${sampling.images}`,
      );
    this.#sampling = sampling
      ? balancedSampling(faces, sampling, seed)
      : shuffledSampling(faces, batchSize, seed);
    this.#ring = batchRing(faces, batchSize, prefetch);
    this.#pool = new WorkerPool(workers, { faces: faces.data, ring: this.#ring });
    this.#next = start;
  }

  /** Milliseconds that next() has waited for batches so far. */
  get waitedMilliseconds(): number {
    return this.#waited;
  }

  /** The batch of the next step; meanwhile the workers go on with those after it. */
  async next(): Promise<Batch> {
    this.#plan();
    const plan = this.#ahead[0];
    if (!plan) throw new Error('the loader has nothing planned');
    const began = performance.now();
    await plan.filled;
    this.#waited += performance.now() - began;
    this.#ahead.shift();
    this.#plan();
    return plan.batch;
  }

  /** Stops the workers. */
  async close(): Promise<void> {
    await this.#pool.close();
  }

  // Gives the workers what is missing of the batches ahead, in the slots that are free by now.
  #plan(): void {
    while (this.#ahead.length < this.#options.prefetch) {
      const step = this.#next++;
      const slot = step % (this.#options.prefetch + 1);
      const { batch, yaw } = this.#describe(step, slot);
      const filled = this.#pool.run({ kind: 'fill', slot, images: batch.images, yaw });
      // A failure is reported by the next() that gets to it.
      filled.catch(() => undefined);
      this.#ahead.push({ batch, filled });
    }
  }

  // Everything of a step's batch but its pixels, and the yaw of those images that are turned (NaN of the others).
  #describe(step: number, slot: number): { batch: Batch; yaw: Float32Array } {
    const { faces, batchSize, seed, crop, flip, variations } = this.#options;
    const bytes = batchSize * faces.size * faces.size * 3;
    const batch: Batch = {
      step,
      epoch: this.#sampling(step, 0).epoch,
      pixels: new Uint8Array(this.#ring, slot * bytes, bytes),
      labels: new Int32Array(batchSize),
      augmentation: new Int32Array(batchSize * augmentColumns),
      variations: new Float32Array(batchSize * variationNames.length),
      images: new Int32Array(batchSize),
    };
    const yaw = new Float32Array(batchSize).fill(NaN);
    for (let i = 0; i < batchSize; i++) {
      const { epoch, image } = this.#sampling(step, i);
      const drawn = drawVariation(seed, epoch, image, faces.size - crop, flip, variations);
      const turned = drawn.turned && faces.canTurn(image);
      batch.images[i] = image;
      batch.labels[i] = faces.label(image);
      if (turned) yaw[i] = trainingYaw(seed, faces.data.items[image] ?? 0, variations.pose.yaw);
      encodeAugmentation(batch.augmentation, i, drawn);
      batch.variations.set(
        [drawn.blur !== 0, drawn.occluded.length > 0, turned].map(Number),
        i * variationNames.length,
      );
    }
    return { batch, yaw };
  }
}

/** A batch that holds on. */
export function copyBatch(batch: Batch): Batch {
  return { ...batch, pixels: batch.pixels.slice() };
}
