/** From bytes to what the network sees: one copy to the device and one kernel, the same for training, evaluation and previews. */
import type { Config } from '../config/index.js';
import { augment, augmentColumns } from '../data/augment.js';
import type { FaceSet } from '../data/face-set.js';
import { Loader, type Batch } from '../data/loader.js';
import type { Device } from '../tensor/device.js';
import { scope } from '../tensor/scope.js';
import { tensor, type Tensor } from '../tensor/tensor.js';

type Images = Pick<Batch, 'pixels' | 'augmentation'>;

/** What the device is given of images: each array and its shape. */
export function imageArrays({ data }: Config, { pixels, augmentation }: Images) {
  const count = augmentation.length / augmentColumns;
  return {
    pixels: { array: pixels, shape: [count, data.image_size, data.image_size, 3] },
    augmentation: { array: augmentation, shape: [count, augmentColumns] },
  };
}

/** The images of a batch on the device, cropped, augmented and normalised: [B, size, size, 3]. */
export function networkInput(config: Config, device: Device, images: Images): Tensor {
  const { pixels, augmentation } = imageArrays(config, images);
  const bytes = tensor(pixels.array, pixels.shape, { device, label: 'images' });
  const rows = tensor(augmentation.array, augmentation.shape, { device, label: 'images' });
  return augmentedInput(config, bytes, rows);
}

/** The same of images [B, side, side, 3] and rows [B, columns] that are on the device. */
export function augmentedInput(config: Config, bytes: Tensor, rows: Tensor): Tensor {
  const { data, model, precision, augment: variations } = config;
  return augment(bytes, rows, {
    size: model.input_size,
    blocks: variations.occlusion.blocks,
    mean: data.pixel_mean,
    scale: data.pixel_scale,
    dtype: precision,
  });
}

/** The same, read back. */
export function augmentedPixels(config: Config, device: Device, images: Images): Float32Array {
  return scope(() => Float32Array.from(networkInput(config, device, images).toArray()));
}

/** The batches of a training from `step` on, counted in batches. `variations` replaces those of the configuration. */
export function trainingLoader(
  { seed, data, model, augment: configured, train }: Config,
  faces: FaceSet,
  step: number,
  variations: Config['augment'] = configured,
): Loader {
  return new Loader({
    faces,
    batchSize: train.batch_size,
    seed,
    crop: model.input_size,
    flip: data.flip,
    variations,
    sampling: data.sampling,
    workers: data.workers,
    prefetch: data.prefetch,
    start: step,
  });
}
