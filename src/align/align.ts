/**
 * From photographs to aligned crops: five points of each face, found by a detector or read from a file, are brought by a similarity to
 * the template that face recognition uses. A photograph without a face is listed, never filled in.
 */
import { rmSync } from 'node:fs';
import { basename, extname } from 'node:path';
import { writeToString } from 'fast-csv';
import sharp from 'sharp';
import { withoutSlash } from '../data/formats/target.js';
import { createArchive } from '../data/formats/writers.js';
import { archiveKind, type Archive } from '../data/formats/archive.js';
import { chooseImages, imageKey } from '../data/formats/image-source.js';
import type { DecodedImage } from '../data/jobs.js';
import { orderOf, renumbering } from '../data/pack.js';
import type { Device } from '../tensor/device.js';
import { UserError } from '../tensor/errors.js';
import { writeAtomic } from '../train/atomic.js';
import { openDetector } from './detector.js';
import type { Landmarks } from './landmarks.js';
import { decodedImages, type DecodeOptions } from './pictures.js';
import {
  fitSimilarity,
  invert,
  pointsFault,
  templateOf,
  warp,
  type Picture,
  type Point,
} from './similarity.js';

export interface AlignOptions extends DecodeOptions {
  /** Side of the crops in pixels: 112 as InsightFace has them, or 110 for random crops of 100. */
  size?: number;
  /** The points of each photograph; found by the detector when left out. */
  landmarks?: Landmarks;
  /** Quality of the JPEG files written, or 'png'. */
  quality?: number | 'png';
  onProgress?: (images: number, total: number) => void;
  /** Ends it between two batches, with nothing written. */
  signal?: AbortSignal;
}

export interface Aligned {
  images: number;
  /** Photographs without a crop, and why. */
  missing: { file: string; reason: string }[];
  /** Where they are listed; null when there is none. */
  list: string | null;
  /** A sentence about a file beside the crops that was not written. */
  note?: string;
  imagesPerSecond: number;
}

/** The crop [size, size, 3] of a picture in which the face has these five points. */
export function alignCrop(picture: Picture, points: readonly Point[], size: number): Uint8Array {
  const crop = new Uint8Array(size * size * 3);
  warp(picture, invert(fitSimilarity(points, templateOf(size))), size, crop);
  return crop;
}

function encode(crop: Uint8Array, size: number, quality: number | 'png'): Promise<Buffer> {
  const image = sharp(crop, { raw: { width: size, height: size, channels: 3 } });
  return (quality === 'png' ? image.png() : image.jpeg({ quality, chromaSubsampling: '4:4:4' })).toBuffer();
}

type Points = readonly Point[] | { readonly reason: string };

/** Five points for each image of a batch, from the file, which has them by the images' keys, or the detector. */
function pointsFinder(
  device: Device,
  landmarks: Landmarks | undefined,
): { find(keys: readonly string[], images: readonly DecodedImage[]): Points[]; dispose(): void } {
  if (landmarks)
    return {
      find: (keys, images) =>
        images.map((image, i) => {
          if (image.fault !== null) return { reason: image.fault };
          const points = landmarks.of(keys[i] ?? '');
          if (!points) return { reason: 'no points in the landmark file' };
          const reason = pointsFault(points, image);
          return reason === null ? points : { reason };
        }),
      dispose: () => undefined,
    };
  const detector = openDetector(device);
  return {
    find: (_, images) => {
      const faces = detector.detect(images.filter((image) => image.fault === null));
      let next = 0;
      return images.map((image) =>
        image.fault !== null
          ? { reason: image.fault }
          : (faces[next++]?.[0]?.points ?? { reason: 'no face found' }),
      );
    },
    dispose: () => detector.dispose(),
  };
}

/** Writes the aligned crops of `archive` to `to`: a folder, .rec or .parquet. Of several faces the most central and largest is taken. */
export async function alignPhotographs(
  archive: Archive,
  to: string,
  device: Device,
  options: AlignOptions = {},
): Promise<Aligned> {
  const { size = 112, quality = 95, onProgress } = options;
  const { source, labels, names, pairs } = archive;
  if (pairs)
    throw new UserError(
      `${archive.path} is a verification set, without identities: expected photographs of identities`,
    );
  if (archiveKind(to) === 'bin')
    throw new UserError(
      `${to}: expected a folder, .rec or .parquet for crops: a verification set (.bin) is made of pairs`,
    );
  const order = orderOf(archive);
  const total = order.length;
  const writer = createArchive(to, size, { archive, order });
  const finder = pointsFinder(device, options.landmarks);
  const list = `${withoutSlash(to)}.missing.csv`;
  const number = renumbering();
  const missing: Aligned['missing'] = [];
  const began = performance.now();
  let images = 0;
  let note: string | undefined;
  try {
    rmSync(list, { force: true }); // of crops that were there before
    // Points of a file are those of the stored pixels.
    const upright = !options.landmarks;
    for await (const { begin, images: decoded } of decodedImages(chooseImages(source, order), {
      ...options,
      upright,
    })) {
      const items = order.subarray(begin, begin + decoded.length);
      const keys = Array.from(items, (item) => imageKey(source, item));
      const points = finder.find(keys, decoded);
      const crops = await Promise.all(
        decoded.map(async (image, i) => {
          const found = points[i];
          if (image.fault !== null || !found || 'reason' in found) return undefined;
          return encode(alignCrop(image, found, size), size, quality);
        }),
      );
      for (const [i, bytes] of crops.entries()) {
        const key = keys[i] ?? '';
        const found = points[i];
        if (!bytes) {
          const reason = found && 'reason' in found ? found.reason : 'it cannot be decoded';
          missing.push({ file: key, reason });
          continue;
        }
        const identity = labels[items[i] ?? 0] ?? -1;
        const name = source.kind === 'files' ? key : key.padStart(7, '0');
        await writer.add({
          bytes,
          label: number(identity),
          identity: names[identity] ?? '',
          name: basename(name, extname(name)) + (quality === 'png' ? '.png' : '.jpg'),
        });
        images++;
      }
      onProgress?.(begin + decoded.length, total);
      if (options.signal?.aborted) throw new UserError(`interrupted: nothing of ${to} is kept`);
    }
    if (images === 0)
      throw new UserError(
        `${archive.path}: expected faces to align, found none in ${total} images` +
          (missing[0] ? ` (the first, ${missing[0].file}: ${missing[0].reason})` : ''),
      );
    if (missing.length > 0)
      writeAtomic(list, await writeToString(missing, { headers: true, includeEndRowDelimiter: true }));
    note = await writer.finish();
  } catch (error) {
    writer.discard(); // aligning does not go on from there
    rmSync(list, { force: true });
    throw error;
  } finally {
    finder.dispose();
  }
  return {
    images,
    missing,
    list: missing.length > 0 ? list : null,
    ...(note === undefined ? {} : { note }),
    imagesPerSecond: (1000 * total) / (performance.now() - began),
  };
}
