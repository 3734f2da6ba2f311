import { decorrelation } from '../autograd/ops/decorrelation.js';
import { tensor, type Tensor } from '../tensor/tensor.js';
import type { Initialiser } from '../nn/initialise.js';
import { Module } from '../nn/module.js';
import { drawMasks } from './masks.js';

/**
 * C of §3.3: one linear classifier of all V variations, applied to the embedding under each of V masks. The fused op
 * (autograd/ops/decorrelation.ts) gives the three losses of Eq. 11–13 and sends each gradient only where it belongs.
 */
export class Discriminator extends Module {
  /** [V, D]. */
  readonly weight: Tensor;
  /** [V]. */
  readonly bias: Tensor;
  /** uint8 [V, K]; a buffer, so that the checkpoint keeps it. */
  readonly masks: Tensor;

  constructor(init: Initialiser, size: number, groups: number, variations: number, share = 0.5) {
    super();
    this.weight = init.normal([variations, size], Math.sqrt(1 / size));
    this.bias = init.constant([variations], 0);
    this.masks = tensor(drawMasks(variations, groups, init.seed, share), [variations, groups], {
      ...init.options,
      dtype: 'uint8',
      label: 'masks',
    });
  }

  /** f [B, D] with normalised groups, targets û [B, V] to [B, 3]: L_C, L_cls, L_adv of each image. */
  forward(f: Tensor, targets: Tensor): Tensor {
    return decorrelation(f, this.weight, this.bias, this.masks, targets);
  }
}
