/** Embeddings of the images that a protocol names: computed, or read from a file that `turl embed` wrote. */
import { alignCrop } from '../../align/align.js';
import { readLandmarks, type Landmarks } from '../../align/landmarks.js';
import { decodedImages } from '../../align/pictures.js';
import { filesSource, type ImageSource } from '../../data/formats/image-source.js';
import { usableImages } from '../../data/photographs.js';
import type { ImageBatch } from '../../data/read-images.js';
import { UserError } from '../../tensor/errors.js';
import type { Experiment } from '../../train/experiment.js';
import type { Embeddings } from '../embeddings-file.js';
import { embedBatches, embedDataset, type Degradation } from '../evaluate.js';
import type { ProtocolSet } from './protocol.js';
import type { SetFeatures } from './set-templates.js';

type Progress = (images: number, total: number) => void;

export interface Failure {
  readonly file: string;
  readonly reason: string;
}

export interface EmbeddedSet extends SetFeatures {
  /** Images that could not be used, in the set's order. */
  readonly failures: readonly Failure[];
}

/** @throws UserError when there is no image that can be used */
function checkAny(set: ProtocolSet, failures: readonly Failure[], place: string): void {
  const [first] = failures;
  if (set.files.length === 0) throw new UserError(`${set.title}: expected images in ${place}, found none`);
  if (failures.length === set.files.length)
    throw new UserError(
      `${set.title}: expected its images in ${place}, found none of ${set.files.length}` +
        (first ? ` (${first.file}: ${first.reason})` : ''),
    );
}

/** Embeds the images of a set, aligning them first where it has points for them. A broken image is a failure, not an error. */
export async function embedSet(
  experiment: Experiment,
  set: ProtocolSet,
  degradation: Degradation = {},
  onProgress?: Progress,
): Promise<EmbeddedSet> {
  if (degradation.yaw !== undefined)
    throw new UserError('--degrade yaw: the images of a protocol have no meshes, they cannot be turned');
  const source = filesSource(set.root, set.files);
  return set.landmarks === null
    ? embedAligned(experiment, set, source, degradation, onProgress)
    : aligning(experiment, set, source, await readLandmarks(set.landmarks), degradation, onProgress);
}

async function embedAligned(
  experiment: Experiment,
  set: ProtocolSet,
  source: ImageSource,
  degradation: Degradation,
  onProgress: Progress | undefined,
): Promise<EmbeddedSet> {
  const { image_size: size, workers } = experiment.config.data;
  const labels = new Int32Array(set.files.length).fill(-1);
  const archive = { kind: 'folder', path: set.root, source, labels, names: [], notes: [] } as const;
  const { faces, reasons } = await usableImages(archive, { size, workers });
  const rows = new Int32Array(set.files.length).fill(-1);
  faces.data.items.forEach((item, row) => (rows[item] = row));
  const failures = [...reasons]
    .sort(([a], [b]) => a - b)
    .map(([image, reason]) => ({ file: set.files[image] ?? '', reason }));
  checkAny(set, failures, set.root);
  return { features: await embedDataset(experiment, faces, degradation, onProgress), rows, failures };
}

async function aligning(
  experiment: Experiment,
  set: ProtocolSet,
  source: ImageSource,
  landmarks: Landmarks,
  degradation: Degradation,
  onProgress: Progress | undefined,
): Promise<EmbeddedSet> {
  const { image_size: size, workers } = experiment.config.data;
  const rows = new Int32Array(set.files.length).fill(-1);
  const failures: Failure[] = [];
  let start = 0;
  const batches = async function* (): AsyncGenerator<ImageBatch> {
    const batch = experiment.config.evaluate.batch_size;
    for await (const { begin, images } of decodedImages(source, { workers, batch })) {
      const crops: Uint8Array[] = [];
      images.forEach((image, i) => {
        const file = set.files[begin + i] ?? '';
        const points = landmarks.of(file);
        if (image.fault !== null) failures.push({ file, reason: image.fault });
        else if (!points) failures.push({ file, reason: 'no points in the landmark file' });
        else rows[begin + i] = start + crops.push(alignCrop(image, points, size)) - 1;
      });
      if (crops.length === 0) continue;
      yield { start, count: crops.length, pixels: Buffer.concat(crops) };
      start += crops.length;
    }
  };
  const features = await embedBatches(experiment, batches(), set.files.length, degradation, onProgress);
  checkAny(set, failures, set.root);
  return { features, rows, failures };
}

/** Finds the embeddings of a set's images by their names; an image without one is a failure. */
export function findEmbeddings(set: ProtocolSet, embeddings: Embeddings, file: string): EmbeddedSet {
  const rowOf = new Map(embeddings.names.map((name, row) => [name, row]));
  const rows = Int32Array.from(set.files, (name) => rowOf.get(name) ?? -1);
  const failures = set.files
    .filter((_, image) => rows[image] === -1)
    .map((name) => ({ file: name, reason: `not in ${file}` }));
  checkAny(set, failures, file);
  return { features: embeddings.features, rows, failures };
}
