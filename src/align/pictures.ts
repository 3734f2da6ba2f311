/** The images of a source as pixels, decoded by worker threads ahead of whoever looks at them. */
import { availableParallelism } from 'node:os';
import { sourceLength, type ImageSource } from '../data/formats/image-source.js';
import { WorkerPool, type DecodedImage } from '../data/jobs.js';

export interface DecodeOptions {
  /** Threads; 0 decodes in the calling one. */
  workers?: number;
  /** Images handed over together. */
  batch?: number;
}

/**
 * All images in order; where one cannot be decoded, the reason stands in its place.
 * @param upright applies the orientation in a JPEG's EXIF data; without it, pixels are as they are stored
 */
export async function* decodedImages(
  source: ImageSource,
  {
    workers = availableParallelism(),
    batch = 32,
    upright = false,
  }: DecodeOptions & { upright?: boolean } = {},
): AsyncGenerator<{ begin: number; images: readonly DecodedImage[] }> {
  const total = sourceLength(source);
  const pool = new WorkerPool(workers, { source });
  const decode = (begin: number) => {
    const images = pool.run({
      kind: 'decode',
      begin,
      end: Math.min(total, begin + batch),
      upright,
    });
    images.catch(() => undefined); // reported when it is awaited
    return { begin, images };
  };
  try {
    const ahead = [];
    let next = 0;
    for (; next < total && ahead.length < Math.max(2, workers); next += batch) ahead.push(decode(next));
    for (let job = ahead.shift(); job; job = ahead.shift()) {
      const { begin, images } = job;
      const decoded = await images;
      if (next < total) ahead.push(decode(next));
      next += batch;
      yield { begin, images: decoded };
    }
  } finally {
    await pool.close();
  }
}
