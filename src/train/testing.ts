/** What the tests of training share: a tiny network, and batches of random images with every variation. */
import { augmentColumns, encodeAugmentation } from '../data/augment.js';
import { variationNames } from '../data/variations.js';
import { randomValues } from '../testing.js';
import type { TrainingBatch } from './learner.js';

export const [side, identities] = [16, 20];

export const tinyNetwork = {
  name: 'iresnet-small',
  input_size: side,
  channels: [4, 4, 8, 8],
  blocks: [1, 1, 1, 1],
  embedding_size: 16,
} as const;

/** `count` images [size, size, 3], flipped, blurred and occluded (of 3 x 3 blocks) in turns; another batch for each step. */
export function drawnBatch(step: number, count = 8, size = side): TrainingBatch {
  const draw = (n: number, values: number, salt: number) =>
    randomValues(n, 10 * step + salt).map((v) => Math.floor(((v + 1) / 2) * values));
  const augmentation = new Int32Array(count * augmentColumns);
  for (let i = 0; i < count; i++)
    encodeAugmentation(augmentation, i, {
      top: 0,
      left: 0,
      flip: (step + i) % 2 === 1,
      blur: i % 4 === 0 ? 3 : 0,
      occluded: i % 3 === 0 ? [(step + i) % 9] : [],
    });
  return {
    pixels: Uint8Array.from(draw(count * size * size * 3, 256, 1)),
    labels: Int32Array.from(draw(count, identities, 2)),
    augmentation,
    variations: Float32Array.from(draw(count * variationNames.length, 2, 3)),
  };
}
