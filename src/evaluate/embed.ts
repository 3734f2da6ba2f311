/** Embeddings of all images of a set, in any format that is read. */
import type { Override } from '../config/index.js';
import { openArchive } from '../data/formats/archive.js';
import { usableImages } from '../data/photographs.js';
import { UserError } from '../tensor/errors.js';
import { embedDataset } from './evaluate.js';
import type { Embeddings } from './embeddings-file.js';
import { withRun } from './run.js';

export interface EmbedResult extends Embeddings {
  /** Images that could not be used, and why. */
  readonly broken: readonly { readonly file: string; readonly reason: string }[];
}

/**
 * @param path a run directory or a checkpoint
 * @param source the images, clean; each is brought to the run's size and its centre is cropped
 * @throws UserError when none of the images can be used
 */
export function embedImages(
  path: string,
  source: string,
  overrides: readonly (string | Override)[] = [],
  onProgress?: (images: number, total: number) => void,
): Promise<EmbedResult> {
  return withRun(path, overrides, async (experiment, _run, step) => {
    const { config } = experiment;
    const archive = await openArchive(source);
    const { faces, broken } = await usableImages(archive, {
      size: config.data.image_size,
      workers: config.data.workers,
    });
    if (faces.images === 0)
      throw new UserError(
        `${source}: expected images, found none that can be used${broken[0] ? ` (${broken[0].file}: ${broken[0].reason})` : ''}`,
      );
    const images = Array.from({ length: faces.images }, (_, image) => image);
    return {
      features: await embedDataset(experiment, faces, {}, onProgress),
      names: images.map((image) => faces.imageKey(image)),
      identities: images.map((image) => faces.identityName(faces.label(image))),
      about: {
        run: config.name,
        step: String(step),
        model: config.model.name,
        crop: `${config.model.input_size} pixels from the centre of ${config.data.image_size}`,
        colour: 'RGB',
        flip: String(config.evaluate.flip),
      },
      broken,
    };
  });
}
