/** From bytes to what the network sees: one copy to the device and one kernel, the same for training, evaluation and previews. */
import type { Config } from '../config/index.js';
import { augment, augmentColumns } from '../data/augment.js';
import type { FaceSet } from '../data/face-set.js';
import { Loader, type Batch } from '../data/loader.js';
import type { Device } from '../tensor/device.js';
import { scope } from '../tensor/scope.js';
import { tensor, type Tensor } from '../tensor/tensor.js';

type Images = Pick<Batch, 'pixels' | 'augmentation'>;

/** The images of a batch on the device, cropped, augmented and normalised: [B, size, size, 3]. */
export function networkInput(config: Config, device: Device, { pixels, augmentation }: Images): Tensor {
  const { data, model, precision, augment: variations } = config;
  const count = augmentation.length / augmentColumns;
  const bytes = tensor(pixels, [count, data.image_size, data.image_size, 3], { device, label: 'images' });
  const rows = tensor(augmentation, [count, augmentColumns], { device, label: 'images' });
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
  return scope(() => ({ images: Float32Array.from(networkInput(config, device, images).toArray()) })).images;
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
