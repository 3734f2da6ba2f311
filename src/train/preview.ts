/**
 * What a training step will see, looked at before it is trained on: contact sheets of the very images that `turl train` makes for a
 * seed and a step, and of each variation alone.
 */
import { join } from 'node:path';
import type { Config } from '../config/index.js';
import { writeContactSheet } from '../data/contact-sheet.js';
import { openDataset } from '../data/dataset.js';
import type { FaceSet } from '../data/face-set.js';
import { copyBatch, type Batch } from '../data/loader.js';
import { variationNames } from '../data/variations.js';
import { device as deviceOf, type Device } from '../tensor/device.js';
import { makeFolder } from './atomic.js';
import { augmentedPixels, trainingLoader } from './network-input.js';

/** Which variations were applied to an image of a batch, in words. */
function applied(batch: Batch, i: number): string[] {
  const { length } = variationNames;
  return variationNames.filter((_, m) => batch.variations[i * length + m]);
}

/** Writes the first images of a batch as the network sees them, with their identities and variations. */
export async function writeBatchSheet(
  file: string,
  device: Device,
  config: Config,
  batch: Batch,
  most = 32,
): Promise<void> {
  const { model, data } = config;
  const shown = Math.min(most, batch.labels.length);
  await writeContactSheet(file, {
    images: augmentedPixels(config, device, batch).subarray(0, shown * model.input_size ** 2 * 3),
    size: model.input_size,
    mean: data.pixel_mean,
    scale: data.pixel_scale,
    labels: Array.from({ length: shown }, (_, i) => [batch.labels[i], ...applied(batch, i)].join(' ')),
  });
}

type Variations = Config['augment'];

/** The variations with these alone, applied to every image: the draws of their parameters stay as they are. */
export function forced(
  variations: Variations,
  names: readonly (typeof variationNames)[number][],
): Variations {
  const probability = (name: (typeof variationNames)[number]) => ({
    probability: names.includes(name) ? 1 : 0,
  });
  return {
    ...variations,
    blur: { ...variations.blur, ...probability('blur') },
    occlusion: { ...variations.occlusion, ...probability('occlusion') },
    pose: { ...variations.pose, ...probability('pose') },
  };
}

/** The batch of a step, on its own. */
export async function batchOf(
  config: Config,
  faces: FaceSet,
  step: number,
  variations?: Variations,
): Promise<Batch> {
  const loader = trainingLoader(
    { ...config, data: { ...config.data, prefetch: 1 } },
    faces,
    step,
    variations,
  );
  try {
    return copyBatch(await loader.next());
  } finally {
    await loader.close();
  }
}

export interface PreviewOptions {
  /** The step of the training, counted in batches from 0. */
  step?: number;
  /** Images on a sheet, at most a batch. */
  images?: number;
}

/** Writes `step.png`, the images of a step as they are, and `variations.png`, each variation alone and all together, into `folder`. */
export async function preview(
  config: Config,
  folder: string,
  { step = 0, images = 32 }: PreviewOptions = {},
): Promise<string[]> {
  makeFolder(folder);
  const { train } = await openDataset(config);
  const device = deviceOf(config.device);
  const { model, data, augment } = config;
  const asTrained = join(folder, 'step.png');
  await writeBatchSheet(asTrained, device, config, await batchOf(config, train, step), images);

  // A row for each image: as it is, each variation alone, all of them.
  const columns = [[], ...variationNames.map((name) => [name]), [...variationNames]];
  const size = model.input_size ** 2 * 3;
  const rows = Math.min(Math.ceil(images / 2), config.train.batch_size);
  const sheet = new Float32Array(rows * columns.length * size);
  const labels: string[] = [];
  for (const [column, names] of columns.entries()) {
    const batch = await batchOf(config, train, step, forced(augment, names));
    const pixels = augmentedPixels(config, device, batch);
    for (let row = 0; row < rows; row++) {
      const place = row * columns.length + column;
      sheet.set(pixels.subarray(row * size, (row + 1) * size), place * size);
      const what = names.length > 1 ? 'all' : (names[0] ?? `${batch.labels[row]} original`);
      labels[place] = applied(batch, row).length === names.length ? what : `${what}: not turned`;
    }
  }
  const alone = join(folder, 'variations.png');
  await writeContactSheet(alone, {
    images: sheet,
    size: model.input_size,
    mean: data.pixel_mean,
    scale: data.pixel_scale,
    labels,
    columns: columns.length,
  });
  return [asTrained, alone];
}
