/** Fits a face mesh to each image of a set, once, so that training can turn the heads. */
import { openDetector } from '../align/detector.js';
import { decodedImages, type DecodeOptions } from '../align/pictures.js';
import type { Archive } from '../data/formats/archive.js';
import { imageFile, sourceLength } from '../data/formats/image-source.js';
import type { Device } from '../tensor/device.js';
import { UserError } from '../tensor/errors.js';
import { checkWritable } from '../train/atomic.js';
import { meshFileOf, writeMeshes, type FittedFace } from './mesh-file.js';
import { nearFrontal } from './turn.js';

export interface FitOptions extends DecodeOptions {
  /** Where the meshes go; beside the set when left out. */
  to?: string;
  onProgress?: (images: number, total: number) => void;
}

export interface Fitted {
  file: string;
  images: number;
  /** Faces that can be turned. */
  frontal: number;
  /** Faces that are turned already, beyond 20 degrees. */
  turned: number;
  /** Images in which no face was found. */
  without: string[];
  /** Images that cannot be decoded, and why. */
  broken: { file: string; reason: string }[];
  imagesPerSecond: number;
}

/** Writes the meshes of all images of `archive`. Of several faces in one image the most central and largest is taken. */
export async function fitMeshes(archive: Archive, device: Device, options: FitOptions = {}): Promise<Fitted> {
  const { source, path, kind } = archive;
  const total = sourceLength(source);
  if (total === 0) throw new UserError(`${path}: expected images, found none`);
  const file = options.to ?? meshFileOf(path, kind === 'folder');
  checkWritable(file);
  const detector = openDetector(device);
  const faces: (FittedFace | undefined)[] = [];
  const without: string[] = [];
  const broken: Fitted['broken'] = [];
  const began = performance.now();
  try {
    for await (const { begin, images } of decodedImages(source, options)) {
      const usable = images.filter((image) => image.fault === null);
      const found = detector.detect(usable);
      let next = 0;
      for (const [i, image] of images.entries()) {
        const name = imageFile(source, begin + i);
        const [face] = image.fault === null ? (found[next++] ?? []) : [];
        faces.push(
          face && image.fault === null
            ? { hash: image.hash, yaw: face.yaw, mesh: normalised(face.mesh, image.width, image.height) }
            : undefined,
        );
        if (image.fault !== null) broken.push({ file: name, reason: image.fault });
        else if (!face) without.push(name);
      }
      options.onProgress?.(begin + images.length, total);
    }
  } finally {
    detector.dispose();
  }
  writeMeshes(file, faces);
  const frontal = faces.filter((face) => face && Math.abs(face.yaw) <= nearFrontal).length;
  return {
    file,
    images: total,
    frontal,
    turned: total - frontal - without.length - broken.length,
    without,
    broken,
    imagesPerSecond: (1000 * total) / (performance.now() - began),
  };
}

/** From pixels to the unit of the centred square, which is what image-file.ts keeps of an image. */
function normalised(mesh: Float32Array, width: number, height: number): Float32Array {
  const side = Math.min(width, height);
  const corner = [(width - side) >> 1, (height - side) >> 1];
  return mesh.map((value, i) => (i % 3 === 2 ? value : value + 0.5 - (corner[i % 3] ?? 0)) / side);
}
