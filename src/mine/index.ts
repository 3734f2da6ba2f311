/** Mined variations (§3.4): soft labels of attributes for a training set, from a model trained on a set that has them. */
import { join } from 'node:path';
import type { Override } from '../config/index.js';
import { openPhotographs, type Photographs } from '../data/photographs.js';
import { writeSoftLabels } from '../data/soft-labels.js';
import { checkOutput, writeAtomic } from '../train/atomic.js';
import { findCheckpoint } from '../train/run-directory.js';
import {
  describeImages,
  evaluateAttributes,
  loadAttributeModel,
  type AttributeEvaluation,
} from './evaluate.js';

export { attributeTable, type AttributeEvaluation } from './evaluate.js';

/** Measures the model at `path`, a run or checkpoint, and keeps the figures in its run directory as attributes.json. */
export async function measureAttributes(
  path: string,
  overrides: readonly (string | Override)[] = [],
): Promise<AttributeEvaluation> {
  const model = loadAttributeModel(path, overrides);
  try {
    const evaluation = await evaluateAttributes(model);
    writeAtomic(
      join(findCheckpoint(path).run, 'attributes.json'),
      `${JSON.stringify(evaluation, null, 2)}\n`,
    );
    return evaluation;
  } finally {
    model.dispose();
  }
}

export interface LabelOptions {
  /** The images to label, in any format. */
  data: string;
  /** The table to write. */
  out: string;
  overrides?: readonly (string | Override)[];
  onProgress?: (done: number, total: number) => void;
}

/** Writes soft labels of all images of a set. Returns how many, and the images that could not be used. */
export async function labelImages(
  path: string,
  { data, out, overrides = [], onProgress }: LabelOptions,
): Promise<{ images: number; broken: Photographs['broken'] }> {
  checkOutput('--out', out, ['.csv']);
  const model = loadAttributeModel(path, overrides);
  try {
    const { image_size: size, workers } = model.config.data;
    const { faces, broken } = await openPhotographs(data, { size, workers });
    const labelled = async function* () {
      for await (const { start, count, probability } of describeImages(model, faces)) {
        onProgress?.(start + count, faces.images);
        yield { start, values: probability };
      }
    };
    await writeSoftLabels(out, model.config.mined.variations, faces, labelled());
    return { images: faces.images, broken };
  } finally {
    model.dispose();
  }
}
