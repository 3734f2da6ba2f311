// A population of generated faces as a FaceSet, and rendering it into memory ahead of training.
import { availableParallelism } from 'node:os';
import { UserError } from '../tensor/errors.js';
import { FaceSet } from './face-set.js';
import { WorkerPool } from './jobs.js';
import { sharedMemory } from './shared-memory.js';
import { usualVariety, type Variety } from './synthetic/scene.js';

export interface SyntheticOptions {
  /** Which population. */
  seed: number;
  identities: number;
  imagesPerIdentity: number;
  /** Side of the images in pixels. */
  size: number;
  /** How much images of one identity differ. */
  variety?: Variety;
}

/** Describes generated faces; nothing is rendered yet. */
export function syntheticFaces(options: SyntheticOptions): FaceSet {
  const { seed, identities, imagesPerIdentity, size, variety = usualVariety } = options;
  if (identities < 2) throw new UserError(`expected at least 2 identities to generate, got ${identities}`);
  const images = identities * imagesPerIdentity;
  if (images >= 2 ** 31)
    throw new UserError(
      `expected fewer than ${2 ** 31} images to generate (data.identities, data.images_per_identity), got ${identities} x ${imagesPerIdentity}`,
    );
  return new FaceSet({
    source: { kind: 'synthetic', seed, imagesPerIdentity, variety },
    size,
    items: Int32Array.from({ length: images }, (_, i) => i),
    labels: Int32Array.from({ length: images }, (_, i) => Math.floor(i / imagesPerIdentity)),
    names: Array.from({ length: identities }, (_, i) => String(i)),
    rendered: null,
  });
}

export interface RenderOptions {
  /** Threads; 0 renders in the calling one. */
  workers?: number;
  /** Also render each image turned, at a yaw drawn from this range of degrees, to either side: the pose variation. */
  yaw?: readonly [number, number] | null;
  /** Seed of the drawn yaws. */
  seed?: number;
  onProgress?: (images: number, total: number) => void;
}

/** Renders the whole set into shared memory, so that training only copies. Photographs are returned as they are: decoding is fast. */
export async function renderAhead(faces: FaceSet, options: RenderOptions = {}): Promise<FaceSet> {
  if (faces.data.source.kind !== 'synthetic') return faces;
  const { workers = availableParallelism(), yaw = null, seed = 0, onProgress } = options;
  const bytes = faces.images * faces.size * faces.size * 3;
  const memory = () =>
    sharedMemory(
      bytes,
      `${faces.images} generated faces of ${faces.size} pixels (data.identities, data.images_per_identity)`,
    );
  const data = {
    ...faces.data,
    rendered: { pixels: memory(), turned: yaw ? memory() : null },
  };
  const pool = new WorkerPool(workers, { faces: data });
  try {
    let done = 0;
    // A job is one identity: its model is built once.
    const jobs = faces.imagesByIdentity().map(async (images) => {
      await pool.run({ kind: 'render', images, seed, yaw });
      done += images.length;
      onProgress?.(done, faces.images);
    });
    await Promise.all(jobs);
  } finally {
    await pool.close();
  }
  return new FaceSet(data);
}
