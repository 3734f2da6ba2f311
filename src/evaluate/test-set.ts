/** The test set that a configuration names: pairs of the held-out identities, or a pairs file with its images. */
import type { Config } from '../config/index.js';
import { scanCache, type Dataset } from '../data/dataset.js';
import { findByNumber } from '../data/face-set.js';
import { scanFolder } from '../data/folder.js';
import { drawPairs, readPairs } from '../data/pairs.js';
import type { TestSet } from './evaluate.js';

/** Undefined when there is nothing to test on. `dataset` is asked for only when its held-out identities are what to test on. */
export async function openTestSet(
  config: Config,
  dataset: () => Promise<Dataset>,
): Promise<TestSet | undefined> {
  const { pairs: file, images, pair_count: count, folds } = config.evaluate;
  if (file !== null && images !== null) {
    const { image_size: size, workers } = config.data;
    const { faces } = await scanFolder(images, { size, workers, cache: scanCache });
    const { pairs, failures } = readPairs(file, findByNumber(faces));
    return { dataset: faces, pairs, failures, data: images, rule: file };
  }
  const { heldOut } = await dataset();
  if (!heldOut) return undefined;
  const pairs = drawPairs(heldOut.data.labels, count, folds, config.seed);
  const data = config.data.source === 'synthetic' ? 'generated faces' : (config.data.path ?? 'images');
  const rule = `${count} pairs of held-out identities drawn by seed ${config.seed}`;
  return { dataset: heldOut, pairs, failures: 0, data, rule };
}
