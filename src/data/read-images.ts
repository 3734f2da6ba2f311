/** Reads images of a set in order, for evaluation: decoded or rendered by worker threads ahead of whoever uses them. */
import type { FaceSet } from './face-set.js';
import { WorkerPool } from './jobs.js';
import { sharedMemory } from './shared-memory.js';

const ahead = 4; // batches made before they are asked for

export interface ImageBatch {
  /** Number of the first image. */
  start: number;
  count: number;
  /** [count, size, size, 3]; holds until the next batch is asked for. */
  pixels: Uint8Array;
}

/**
 * All images, `batchSize` at a time.
 * @param yaw degrees to which every head is turned that can be; the others stay as they are
 */
export async function* readImages(
  faces: FaceSet,
  { batchSize, workers, yaw = NaN }: { batchSize: number; workers: number; yaw?: number | undefined },
): AsyncGenerator<ImageBatch> {
  const bytes = faces.size * faces.size * 3;
  const slot = Math.min(batchSize, faces.images);
  const ring = sharedMemory(ahead * slot * bytes, `${ahead} batches of ${slot} images`);
  const pool = new WorkerPool(workers, { faces: faces.data, ring });
  const batches = Math.ceil(faces.images / batchSize);
  // Every job fills a whole slot; the last repeats its last image.
  const fill = (batch: number) => {
    const images = Int32Array.from({ length: slot }, (_, i) =>
      Math.min(batch * batchSize + i, faces.images - 1),
    );
    const filled = pool.run({
      kind: 'fill',
      slot: batch % ahead,
      images,
      yaw: Float32Array.from(images, (image) => (faces.canTurn(image) ? yaw : NaN)),
    });
    filled.catch(() => undefined); // reported when it is awaited
    return filled;
  };
  try {
    const jobs = Array.from({ length: Math.min(ahead - 1, batches) }, (_, batch) => fill(batch));
    for (let batch = 0; batch < batches; batch++) {
      await jobs[batch];
      const start = batch * batchSize;
      const count = Math.min(batchSize, faces.images - start);
      yield {
        start,
        count,
        pixels: new Uint8Array(ring, (batch % ahead) * slot * bytes, count * bytes),
      };
      if (batch + ahead - 1 < batches) jobs.push(fill(batch + ahead - 1));
    }
  } finally {
    await pool.close();
  }
}
