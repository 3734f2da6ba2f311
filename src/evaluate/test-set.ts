/** The test set that a configuration names: pairs of the held-out identities, a pairs file with its images, or a verification set. */
import type { Config } from '../config/index.js';
import { scanCache, type Dataset } from '../data/dataset.js';
import { findByNumber, type FaceSet } from '../data/face-set.js';
import { openArchive } from '../data/formats/archive.js';
import { drawPairs, readPairs, selectPairs, type Pairs } from '../data/pairs.js';
import { usableImages } from '../data/photographs.js';
import { UserError } from '../tensor/errors.js';
import type { TestSet } from './evaluate.js';

/** Undefined when there is nothing to test on. `dataset` is asked for only when its held-out identities are what to test on. */
export async function openTestSet(
  config: Config,
  dataset: () => Promise<Dataset>,
): Promise<TestSet | undefined> {
  const { pairs: file, images, pair_count: count, folds } = config.evaluate;
  if (file !== null) {
    const { image_size: size, workers } = config.data;
    const archive = await openArchive(images ?? file);
    const { faces } = await usableImages(archive, { size, workers, cache: scanCache });
    const data = images ?? file;
    if (!archive.pairs) {
      if (file.endsWith('.bin')) throw new UserError(`${data}: expected a verification set`);
      const { pairs, failures } = readPairs(file, findByNumber(faces));
      return { ...pairedOnly(faces, pairs), failures, data, rule: file };
    }
    return { dataset: faces, ...selectPairs(archive.pairs, faces.data.items), data, rule: 'its own pairs' };
  }
  const { heldOut } = await dataset();
  if (!heldOut) return undefined;
  const pairs = drawPairs(heldOut.data.labels, count, folds, config.seed);
  const data = config.data.source === 'synthetic' ? 'generated faces' : (config.data.path ?? 'images');
  const rule = `${count} pairs of held-out identities drawn by seed ${config.seed}`;
  return { dataset: heldOut, pairs, failures: 0, data, rule };
}

/** The images that the pairs name, and the pairs among them: no others need to be embedded. */
function pairedOnly(faces: FaceSet, pairs: Pairs): { dataset: FaceSet; pairs: Pairs } {
  const used = [...new Set([...pairs.first, ...pairs.second])].sort((a, b) => a - b);
  return { dataset: faces.only(used), pairs: selectPairs(pairs, Int32Array.from(used)).pairs };
}
