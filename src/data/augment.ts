/**
 * Batch augmentation on the device (§3: low resolution and occlusion): crop, mirror, Gaussian blur or a smaller image, black blocks and
 * normalisation in one kernel, from uint8 images [B, H, W, 3] to [B, h, w, 3]. The parameters of an image are one row of int32.
 */
import { check } from '../tensor/errors.js';
import { empty, type Tensor } from '../tensor/tensor.js';
import type { DType } from '../tensor/dtype.js';

/** int32 values that describe one image's augmentation. */
export const augmentColumns = 12;

/** What is done to one image, in this order. */
export interface Augmentation {
  /** Upper left corner of the crop in pixels. */
  top: number;
  left: number;
  flip: boolean;
  /** Low resolution: 0 for none; a Gaussian kernel size in pixels, odd, 3 to 11; or minus the factor, -2 to -8, by which the image
   *  is made smaller (means) and then as large as it was (bilinear). */
  blur: number;
  /** Blocks made black, counted along rows of the grid. */
  occluded: readonly number[];
}

/** Writes the row of one image into the parameters of a batch. */
export function encodeAugmentation(parameters: Int32Array, image: number, augmentation: Augmentation): void {
  const { top, left, flip, blur, occluded } = augmentation;
  const row = parameters.subarray(image * augmentColumns, (image + 1) * augmentColumns);
  row.fill(0);
  row.set([top, left, Number(flip), blur]);
  for (const block of occluded)
    row[4 + (block >> 5)] = (row[4 + (block >> 5)] as number) | (1 << (block & 31));
}

/** The same blocks of the mirror image: what is made black of an image and of its mirror image is then the same. */
export function mirrorBlocks(occluded: readonly number[], blocks: number): number[] {
  return occluded.map((block) => block - (block % blocks) + (blocks - 1 - (block % blocks)));
}

export interface AugmentOptions {
  /** Side of the output in pixels. */
  size: number;
  /** Blocks along one side of the occlusion grid, at most 16. */
  blocks: number;
  /** Each value becomes (value - mean) / scale. */
  mean: number;
  scale: number;
  dtype?: DType;
}

/**
 * @param images uint8 [B, H, W, 3]
 * @param parameters int32 [B, 12], made by `encodeAugmentation`; whoever makes them sees to it that crops lie within the image
 */
export function augment(images: Tensor, parameters: Tensor, options: AugmentOptions): Tensor {
  const { size, blocks, mean, scale, dtype = 'float32' } = options;
  check(
    images.rank === 4 &&
      images.dim(3) === 3 &&
      images.dtype === 'uint8' &&
      images.dim(1) >= size &&
      images.dim(2) >= size,
    'augment',
    `images of uint8 [B, H, W, 3], at least ${size} pixels wide`,
    () => images.toString(),
  );
  const [batch, height, width] = [images.dim(0), images.dim(1), images.dim(2)];
  check(
    parameters.dtype === 'int32' && parameters.size === batch * augmentColumns,
    'augment',
    `parameters of int32 [${batch}, ${augmentColumns}]`,
    () => parameters.toString(),
  );
  check(blocks >= 1 && blocks <= 16, 'augment', 'a grid of 1 to 16 blocks', () => String(blocks));
  const y = empty([batch, size, size, 3], { dtype, device: images.device, label: 'augment' });
  const sizes = Int32Array.of(batch, height, width, size, size, blocks);
  images.device.kernels.augment(y, images, parameters, sizes, mean, scale);
  return y;
}
