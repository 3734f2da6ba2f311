// What is drawn for each training image (§3, §4): crop, mirror and the augmentable variations, low resolution (blur), occlusion
// and pose, applied independently so that they combine. A draw depends on (seed, epoch, image) only.
import { Draws, purposes } from '../tensor/philox.js';

/** The variations in the order of the labels û. */
export const variationNames = ['blur', 'occlusion', 'pose'] as const;

/** How images are varied; the names are those of an experiment's `augment` section. */
export interface VariationOptions {
  /** Low resolution: share of images; how; the odd Gaussian kernel sizes in pixels, and the factors of resampling, to draw from. */
  readonly blur: {
    readonly probability: number;
    readonly method: 'gaussian' | 'resample' | 'either';
    readonly sizes: readonly number[];
    readonly factors: readonly number[];
  };
  /** Black blocks: share of images, blocks along a side, and the range of the share of blocks made black. */
  readonly occlusion: {
    readonly probability: number;
    readonly blocks: number;
    readonly share: readonly [number, number];
  };
  /** Turned heads: share of images, and the range of yaw in degrees, to either side. */
  readonly pose: { readonly probability: number; readonly yaw: readonly [number, number] };
}

/** What was drawn for one image. */
export interface DrawnVariation {
  readonly top: number;
  readonly left: number;
  readonly flip: boolean;
  /** Gaussian kernel size in pixels, minus the factor of resampling, or 0 for neither. */
  readonly blur: number;
  /** Blocks made black, counted along rows of the grid. */
  readonly occluded: readonly number[];
  readonly turned: boolean;
}

/** `count` different numbers below n, in the order drawn. */
export function chooseSome(draws: Draws, count: number, n: number): number[] {
  const list = Array.from({ length: n }, (_, i) => i);
  for (let i = 0; i < count; i++) {
    const j = i + draws.int(n - i);
    [list[i], list[j]] = [list[j] ?? 0, list[i] ?? 0];
  }
  return list.slice(0, count);
}

/** Draws for `image` in `epoch`. `slack` is the size of the image beyond the crop in pixels. Every value is drawn whether or not it is
 *  used, so that changing one setting leaves the others' draws as they are. */
export function drawVariation(
  seed: number,
  epoch: number,
  image: number,
  slack: number,
  flip: boolean,
  { blur, occlusion, pose }: VariationOptions,
): DrawnVariation {
  const draws = new Draws(seed, purposes.augment, epoch, image);
  const top = draws.int(slack + 1);
  const left = draws.int(slack + 1);
  const mirrored = draws.chance(0.5);
  const blurred = draws.chance(blur.probability);
  const size = blur.sizes[draws.int(blur.sizes.length)] ?? 0;
  const hidden = draws.chance(occlusion.probability);
  const share = draws.uniform(...occlusion.share);
  const turned = draws.chance(pose.probability);
  const other = new Draws(seed, purposes.resample, epoch, image);
  const resampled = other.chance(0.5) ? blur.method !== 'gaussian' : blur.method === 'resample';
  const factor = blur.factors[other.int(blur.factors.length)] ?? 0;
  const blocks = occlusion.blocks ** 2;
  return {
    top,
    left,
    flip: flip && mirrored,
    blur: blurred ? (resampled ? -factor : size) : 0,
    occluded: hidden ? chooseSome(draws, Math.max(1, Math.round(share * blocks)), blocks) : [],
    turned,
  };
}
