/** The images that a configuration asks for: generated or photographs, split by identity into training and held-out ones. */
import type { Config } from '../config/index.js';
import { UserError } from '../tensor/errors.js';
import { splitIdentities, type FaceSet } from './face-set.js';
import { openCelebA } from './formats/celeba.js';
import { renderAhead, syntheticFaces } from './generate.js';
import { openPhotographs, type Photographs } from './photographs.js';
import { readSoftLabels, SoftLabels } from './soft-labels.js';

export interface Dataset {
  train: FaceSet;
  /** Identities that are never trained on. */
  heldOut: FaceSet | undefined;
  /** Of the training images: labels of mined variations; in stage attributes the attributes themselves, of both sets. */
  soft?: SoftLabels | undefined;
  heldOutSoft?: SoftLabels | undefined;
  /** Images that could not be used, and why. */
  broken: Photographs['broken'];
}

/** Told how many photographs have been checked, of how many, where a set is opened for the first time. */
export type CheckProgress = (images: number, total: number) => void;

/**
 * Opens the images of `config.data`. With `render`, generated training faces are rendered into memory, plain and turned.
 * @throws UserError for too few identities, or a variation that the images cannot have
 */
export async function openDataset(
  config: Config,
  options: { render?: boolean; onCheck?: CheckProgress | undefined } = {},
): Promise<Dataset> {
  const { stage, mined } = config;
  if (stage === 'attributes') return openAttributeSet(config, options.onCheck);
  const dataset = await openImages(config, options);
  if (mined.labels === null) return dataset;
  return { ...dataset, soft: await readSoftLabels(mined.labels, mined.variations, dataset.train) };
}

/** CelebA's images with their attributes, split by identity. */
async function openAttributeSet(config: Config, onCheck?: CheckProgress): Promise<Dataset> {
  const { data, mined, seed } = config;
  if (data.path === null)
    throw new UserError(
      'data.path: expected the folder of a set in CelebA’s format (or --data PATH), found nothing',
    );
  const { archive, attributes } = await openCelebA(data.path, mined.variations);
  const { faces, broken } = await openPhotographs(archive, photographOptions(config, onCheck));
  const heldOut = data.held_out_identities;
  const split = heldOut > 0 ? splitIdentities(faces, heldOut, seed) : { train: faces, heldOut: undefined };
  const labelsOf = (set: FaceSet) => SoftLabels.ofItems(mined.variations, attributes, set);
  return {
    ...split,
    soft: labelsOf(split.train),
    heldOutSoft: split.heldOut && labelsOf(split.heldOut),
    broken,
  };
}

const photographOptions = ({ data }: Config, onCheck?: CheckProgress) => ({
  onProgress: onCheck,
  size: data.image_size,
  minImagesPerIdentity: data.min_images_per_identity,
  maxImagesPerIdentity: data.max_images_per_identity,
  maxIdentities: data.identities,
  workers: data.workers,
});

async function openImages(
  config: Config,
  { render = false, onCheck }: { render?: boolean; onCheck?: CheckProgress | undefined },
): Promise<Dataset> {
  const { data, augment, seed } = config;
  const heldOut = data.held_out_identities;
  const split = (faces: FaceSet): { train: FaceSet; heldOut: FaceSet | undefined } =>
    heldOut > 0 ? splitIdentities(faces, heldOut, seed) : { train: faces, heldOut: undefined };
  if (data.source === 'synthetic') {
    const identities = (data.identities ?? 0) + heldOut;
    const faces = syntheticFaces({
      seed,
      identities,
      imagesPerIdentity: data.images_per_identity,
      size: data.image_size,
    });
    const { train, heldOut: rest } = split(faces);
    const yaw = augment.pose.probability > 0 ? augment.pose.yaw : null;
    const workers = Math.max(1, data.workers);
    return {
      train: render ? await renderAhead(train, { workers, yaw, seed }) : train,
      heldOut: rest,
      broken: [],
    };
  }
  if (data.path === null)
    throw new UserError('data.path: expected the path of photographs (or --data PATH), found nothing');
  const { faces, broken } = await openPhotographs(data.path, photographOptions(config, onCheck));
  if (augment.pose.probability > 0 && !faces.yawAvailable)
    throw new UserError(
      `augment.pose.probability: expected face meshes of ${data.path} to turn the heads by, found none: make them with turl data fit ${data.path}, or set it to 0`,
    );
  return { ...split(faces), broken };
}
