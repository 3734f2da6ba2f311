/**
 * An experiment on a device: the network, the loss with what it learns, and their optimisers, built from a configuration; one
 * update from batches; embeddings of images; and the state that a checkpoint keeps.
 */
import { groupNormalize } from '../autograd/ops/group-normalize.js';
import { noGrad, Tape } from '../autograd/tape.js';
import type { Config } from '../config/index.js';
import { augment, augmentColumns } from '../data/augment.js';
import type { Batch } from '../data/loader.js';
import { activeVariations, variationTargets, type Variation } from '../method/variations.js';
import { lossParts, readLossParts, UniversalLoss, type LossPart } from '../method/universal-loss.js';
import type { Backbone } from '../nn/backbone.js';
import { Initialiser } from '../nn/initialise.js';
import { buildBackbone } from '../nn/models.js';
import { Optimizer, type OptimizerOptions } from '../nn/optimizer.js';
import { rateFactor } from '../nn/schedule.js';
import { device as deviceOf, type Device } from '../tensor/device.js';
import { UserError } from '../tensor/errors.js';
import { scope } from '../tensor/scope.js';
import { full, tensor, type Tensor } from '../tensor/tensor.js';

/** What an update takes of a batch. */
export type TrainingBatch = Pick<Batch, 'pixels' | 'labels' | 'augmentation' | 'variations'>;

/** What one update tells: the losses (means over the images), the rate used, and the norm of the gradients before clipping. */
export interface UpdateReport {
  losses: Record<LossPart, number>;
  learningRate: number;
  gradientNorm: number;
}

export interface Embeddings {
  /** [n, D], each of the K groups of length 1. */
  embedding: Float32Array;
  /** s [n, K], or undefined when the loss has no confidences. */
  confidence: Float32Array | undefined;
}

function optimizerOptions(config: Config['optimizer']): OptimizerOptions {
  const { name, momentum, betas, epsilon, weight_decay: weightDecay } = config;
  return name === 'sgd' ? { name, momentum, weightDecay } : { name, betas, epsilon, weightDecay };
}

function prefixed(prefix: string, tensors: ReadonlyMap<string, Tensor>): [string, Tensor][] {
  return [...tensors].map(([name, t]) => [`${prefix}.${name}`, t]);
}

export class Experiment {
  readonly device: Device;
  readonly backbone: Backbone;
  readonly loss: UniversalLoss;
  readonly optimizer: Optimizer;
  /** The discriminator's own optimiser. */
  readonly discriminatorOptimizer: Optimizer | undefined;
  readonly #active: Variation[];

  /** @param identities N, of the training images */
  constructor(
    readonly config: Config,
    identities: number,
  ) {
    this.device = deviceOf(config.device);
    const init = new Initialiser(config.seed, { device: this.device });
    this.backbone = buildBackbone(init, config.model);
    this.#active = activeVariations(config.augment);
    const { embeddingSize, featureSize } = this.backbone;
    this.loss = new UniversalLoss(
      init,
      { identities, embeddingSize, featureSize, variations: this.#active.length },
      config.loss,
      config.precision,
    );
    const main = new Map([
      ...prefixed('network', this.backbone.parameters()),
      ...prefixed('loss', this.loss.mainParameters()),
    ]);
    this.optimizer = new Optimizer(main, optimizerOptions(config.optimizer));
    const discriminator = this.loss.discriminatorParameters();
    if (discriminator.size > 0)
      this.discriminatorOptimizer = new Optimizer(
        new Map(prefixed('loss', discriminator)),
        optimizerOptions(config.discriminator.optimizer),
      );
  }

  /** Numbers that training changes. */
  get parameterCount(): number {
    const sizes = [this.optimizer, this.discriminatorOptimizer].flatMap((o) => [
      ...(o?.parameters.values() ?? []),
    ]);
    return sizes.reduce((sum, { size }) => sum + size, 0);
  }

  /**
   * One update, number `step` (from 0) of `steps`, from the mean gradient over the batches.
   * @throws UserError naming what is not finite, before anything has been changed
   */
  update(batches: readonly TrainingBatch[], step: number, steps: number): UpdateReport {
    const parts = batches.map((batch, i) => this.#gradients(batch, step, i, batches.length));
    const losses = Object.fromEntries(
      lossParts.map((part) => [part, parts.reduce((sum, p) => sum + p[part], 0) / parts.length]),
    ) as Record<LossPart, number>;
    for (const part of [
      'identification',
      'regulariser',
      'discriminator',
      'classification',
      'adversarial',
    ] as const)
      if (!Number.isFinite(losses[part])) throw new UserError(`the ${part} loss is ${losses[part]}`);
    const factor = rateFactor(schedule(this.config), step, steps);
    const { optimizer, discriminator } = this.config;
    const clip = this.config.train.clip_norm;
    const gradientNorm = this.optimizer.gradientNorm();
    this.discriminatorOptimizer?.gradientNorm();
    if (clip !== null) this.optimizer.clip(clip);
    const learningRate = optimizer.lr * factor;
    this.optimizer.step(learningRate);
    this.discriminatorOptimizer?.step(discriminator.optimizer.lr * factor);
    return { losses, learningRate, gradientNorm };
  }

  /** Adds the gradients of one batch, weighted by 1 / count, to the parameters. */
  #gradients(batch: TrainingBatch, step: number, index: number, count: number): Record<LossPart, number> {
    this.backbone.train();
    this.backbone.dropout.step = step * count + index;
    return scope(() => {
      const { device } = this;
      const images = this.#prepare(batch.pixels, batch.augmentation);
      const labels = tensor(batch.labels, [batch.labels.length], { device, label: 'labels' });
      const flags = variationTargets(batch.variations, this.#active);
      const targets = tensor(flags, [batch.labels.length, this.#active.length], { device, label: 'targets' });
      const tape = new Tape();
      const { total, parts } = tape.record(() => {
        const { embedding, features } = this.backbone.forward(images);
        return this.loss.forward({ embedding, features, labels, targets }, step);
      });
      tape.backward(
        total,
        count === 1 ? undefined : full(total.shape, 1 / count, { device, dtype: total.dtype }),
      );
      return readLossParts(parts);
    });
  }

  /** From bytes to the network's input: one copy to the device and one kernel. */
  #prepare(pixels: Uint8Array, parameters: Int32Array): Tensor {
    const { data, model, precision, augment: variations } = this.config;
    const { device } = this;
    const count = parameters.length / augmentColumns;
    const bytes = tensor(pixels, [count, data.image_size, data.image_size, 3], { device, label: 'images' });
    const rows = tensor(parameters, [count, augmentColumns], { device, label: 'images' });
    return augment(bytes, rows, {
      size: model.input_size,
      blocks: variations.occlusion.blocks,
      mean: data.pixel_mean,
      scale: data.pixel_scale,
      dtype: precision,
    });
  }

  /** The images of a batch as the network sees them: normalised pixels [B, size, size, 3]. */
  augmented({ pixels, augmentation }: Pick<Batch, 'pixels' | 'augmentation'>): Float32Array {
    return scope(() => ({ images: Float32Array.from(this.#prepare(pixels, augmentation).toArray()) })).images;
  }

  /** Embeddings of images [n, size, size, 3] with their augmentation parameters, in evaluation mode. */
  embed(pixels: Uint8Array, parameters: Int32Array): Embeddings {
    this.backbone.evaluate();
    return noGrad(() =>
      scope(() => {
        const { embedding, features } = this.backbone.forward(this.#prepare(pixels, parameters));
        return {
          embedding: groupNormalize(embedding, this.config.loss.groups).toArray() as Float32Array,
          confidence: this.loss.confidence?.forward(features).toArray() as Float32Array | undefined,
        };
      }),
    );
  }

  /** All that is needed to continue, beside the number of steps done. */
  state(): Map<string, Tensor> {
    return new Map([
      ...prefixed('network', this.backbone.state()),
      ...prefixed('loss', this.loss.state()),
      ...prefixed('optimizer', this.optimizer.state()),
      ...prefixed(
        'discriminator_optimizer',
        this.discriminatorOptimizer?.state() ?? new Map<string, Tensor>(),
      ),
    ]);
  }

  /** Continues after `steps` updates; the state has been set. */
  set steps(steps: number) {
    this.optimizer.steps = steps;
    if (this.discriminatorOptimizer) this.discriminatorOptimizer.steps = steps;
  }

  dispose(): void {
    this.optimizer.dispose();
    this.discriminatorOptimizer?.dispose();
    this.backbone.dispose();
    this.loss.dispose();
  }
}

function schedule({ schedule: s }: Config) {
  const { name, warmup_steps: warmupSteps, milestones, gamma, power, final } = s;
  return { name, warmupSteps, milestones, gamma, power, final };
}
