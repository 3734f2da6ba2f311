/** The test set that a configuration names: pairs of the held-out identities, a pairs file with its images, or a verification set. */
import type { Config } from '../config/index.js';
import type { Dataset } from '../data/dataset.js';
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
  if (file === null && images !== null)
    throw new UserError(
      `evaluate.images ${images}: expected evaluate.pairs (--pairs FILE) with it, which says what to compare, found none`,
    );
  if (file !== null) {
    const { image_size: size, workers } = config.data;
    const data = images ?? file;
    const archive = await openArchive(data);
    if (archive.pairs && data !== file)
      throw new UserError(
        `evaluate.images ${data}: expected images without pairs beside evaluate.pairs ${file}, found pairs of its own (--pairs ${data} takes those)`,
      );
    const { faces, broken } = await usableImages(archive, { size, workers });
    if (!archive.pairs) {
      if (file.endsWith('.bin')) throw new UserError(`${data}: expected a verification set`);
      const find = findByNumber(faces);
      const missing = new Set<string>();
      const { pairs, failures } = readPairs(file, (name, number) => {
        const image = find(name, number);
        if (image === undefined) missing.add(`${name}/${name}_${String(number).padStart(4, '0')}`);
        return image;
      });
      checkPairs(file, pairs);
      return { ...pairedOnly(faces, pairs), failures, failed: [...missing], data, rule: file };
    }
    if (faces.images === 0)
      throw new UserError(
        `${data}: expected images, found none that can be used${broken[0] ? ` (${broken[0].file}: ${broken[0].reason})` : ''}`,
      );
    const selected = selectPairs(archive.pairs, faces.data.items);
    checkPairs(data, selected.pairs);
    const failed = broken.map((one) => one.file);
    return { dataset: faces, ...selected, failed, data, rule: 'its own pairs' };
  }
  const { heldOut } = await dataset();
  if (!heldOut) return undefined;
  const pairs = drawPairs(heldOut.data.labels, count, folds, config.seed);
  const data = config.data.source === 'synthetic' ? 'generated faces' : (config.data.path ?? 'images');
  const rule = `${count} pairs of held-out identities drawn by seed ${config.seed}`;
  return { dataset: heldOut, pairs, failures: 0, data, rule };
}

/** @throws UserError unless there are pairs of both kinds, and pairs in each of two folds or more */
function checkPairs(file: string, { genuine, fold }: Pairs): void {
  const same = genuine.filter(Boolean).length;
  if (same === 0 || same === genuine.length)
    throw new UserError(
      `${file}: expected genuine and impostor pairs of usable images, found ${same} and ${genuine.length - same}`,
    );
  const folds = new Set(fold);
  const most = fold.reduce((last, one) => Math.max(last, one), 1) + 1;
  if (folds.size < most)
    throw new UserError(
      `${file}: expected pairs of usable images in each of ${most} folds, found them in ${folds.size}`,
    );
}

/** The images that the pairs name, and the pairs among them: no others need to be embedded. */
function pairedOnly(faces: FaceSet, pairs: Pairs): { dataset: FaceSet; pairs: Pairs } {
  const used = [...new Set([...pairs.first, ...pairs.second])].sort((a, b) => a - b);
  return { dataset: faces.only(used), pairs: selectPairs(pairs, Int32Array.from(used)).pairs };
}
