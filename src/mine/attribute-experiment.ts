/** Stage attributes: a network whose feature tells attributes and, by its adversary, not the identity (§3.4, Eq. 15). */
import { sigmoid } from '../autograd/ops/unary.js';
import { noGrad, Tape } from '../autograd/tape.js';
import type { Config } from '../config/index.js';
import { AttributeLoss, attributeLossParts } from '../method/attributes.js';
import type { Backbone } from '../nn/backbone.js';
import { Initialiser } from '../nn/initialise.js';
import { buildBackbone } from '../nn/models.js';
import { Optimizer } from '../nn/optimizer.js';
import { UserError } from '../tensor/errors.js';
import { scope } from '../tensor/scope.js';
import { full, tensor } from '../tensor/tensor.js';
import { Learner, optimizerOptions, prefixed, type Losses, type TrainingBatch } from '../train/learner.js';
import { networkInput } from '../train/network-input.js';

export interface Description {
  /** [n, D], of length √D. */
  feature: Float32Array;
  /** [n, T] */
  probability: Float32Array;
}

export class AttributeExperiment extends Learner {
  protected readonly modules;
  readonly backbone: Backbone;
  readonly loss: AttributeLoss;
  readonly optimizer: Optimizer;
  /** The adversary's own optimiser. */
  readonly discriminatorOptimizer: Optimizer;

  /** @param drawn whether it starts from random weights; else from zeros, for a checkpoint to set */
  constructor(config: Config, identities: number, drawn = true) {
    super(config, identities);
    const init = new Initialiser(config.seed, { device: this.device }, drawn);
    this.backbone = buildBackbone(init, config.model);
    const { embeddingSize } = this.backbone;
    const sizes = { identities, embeddingSize, attributes: config.mined.variations.length };
    this.loss = new AttributeLoss(init, sizes, config.loss.lambda_adv);
    this.modules = { network: this.backbone, loss: this.loss };
    const { attributes, adversary } = this.loss;
    this.optimizer = new Optimizer(
      new Map([
        ...prefixed('network', this.backbone.parameters()),
        ...prefixed('loss.attributes', attributes.parameters()),
      ]),
      optimizerOptions(config.optimizer),
    );
    this.discriminatorOptimizer = new Optimizer(
      new Map(prefixed('loss.adversary', adversary.parameters())),
      optimizerOptions(config.discriminator.optimizer),
    );
  }

  protected gradients(
    { soft, ...batch }: TrainingBatch,
    step: number,
    index: number,
    count: number,
  ): () => Losses {
    if (!soft) throw new UserError('stage: attributes needs images with attributes');
    this.backbone.train();
    this.backbone.dropout.step.value = step * count + index;
    const values = scope(() => {
      const { device } = this;
      this.onPhase?.('input');
      const images = networkInput(this.config, device, batch);
      const labels = tensor(batch.labels, [batch.labels.length], { device, label: 'labels' });
      const tape = new Tape();
      const { total, parts } = tape.record(() => {
        this.onPhase?.('forward');
        const { embedding } = this.backbone.forward(images);
        this.onPhase?.('loss');
        return this.loss.forward(embedding, labels, soft);
      });
      this.onPhase?.('backward');
      tape.backward(total, full(total.shape, 1 / count, { device, dtype: total.dtype }));
      return Array.from(parts.toArray());
    });
    return () => Object.fromEntries(attributeLossParts.map((name, i) => [name, values[i] as number]));
  }

  /** What images [n, size, size, 3] are, with their augmentation parameters, in evaluation mode. */
  describe(pixels: Uint8Array, augmentation: Int32Array): Description {
    this.backbone.evaluate();
    return noGrad(() =>
      scope(() => {
        const images = networkInput(this.config, this.device, { pixels, augmentation });
        const feature = this.loss.feature(this.backbone.forward(images).embedding);
        const probability = sigmoid(this.loss.attributes.forward(feature));
        return {
          feature: Float32Array.from(feature.toArray()),
          probability: Float32Array.from(probability.toArray()),
        };
      }),
    );
  }
}
