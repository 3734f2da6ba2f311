/**
 * An experiment on a device: the network, the loss with what it learns, and their optimisers, built from a configuration; one
 * update from batches; embeddings of images; and the state that a checkpoint keeps.
 */
import { cast } from '../autograd/ops/cast.js';
import { groupNormalize } from '../autograd/ops/group-normalize.js';
import { mean } from '../autograd/ops/reduce.js';
import { affine } from '../autograd/ops/unary.js';
import { noGrad, Tape } from '../autograd/tape.js';
import type { Config } from '../config/index.js';
import type { Batch } from '../data/loader.js';
import { activeVariations, variationTargets, type Variation } from '../method/variations.js';
import { uncertaintyLoss } from '../method/uncertainty.js';
import { readLossParts, UniversalLoss, type LossPart } from '../method/universal-loss.js';
import { accumulator } from '../tensor/dtype.js';
import type { Backbone } from '../nn/backbone.js';
import { Initialiser } from '../nn/initialise.js';
import { buildBackbone } from '../nn/models.js';
import { Optimizer, type OptimizerOptions } from '../nn/optimizer.js';
import { rateFactor } from '../nn/schedule.js';
import { networkInput } from './network-input.js';
import { device as deviceOf, type Device } from '../tensor/device.js';
import { UserError } from '../tensor/errors.js';
import { scope } from '../tensor/scope.js';
import { full, tensor, type Tensor } from '../tensor/tensor.js';

/** What an update takes of a batch. */
export type TrainingBatch = Pick<Batch, 'pixels' | 'labels' | 'augmentation' | 'variations'>;

/** The losses of a stage: those of the whole method, or the mean −score of genuine pairs (`uncertainty`) and the mean s. */
export type Losses = Partial<Record<LossPart | 'uncertainty', number>>;

/** What one update tells: the losses (means over the images), the rate used, and the norm of the gradients before clipping. */
export interface UpdateReport {
  losses: Losses;
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

const mustBeFinite = [
  'identification',
  'regulariser',
  'discriminator',
  'classification',
  'adversarial',
  'uncertainty',
] as const;

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
    const uncertain = config.stage === 'uncertainty';
    if (uncertain)
      for (const name of main.keys()) if (!name.startsWith('loss.confidence.')) main.delete(name);
    this.optimizer = new Optimizer(main, optimizerOptions(config.optimizer));
    const discriminator = this.loss.discriminatorParameters();
    if (discriminator.size > 0 && !uncertain)
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
    const gradients = this.config.stage === 'uncertainty' ? this.#uncertaintyGradients : this.#gradients;
    const parts = batches.map((batch, i) => gradients.call(this, batch, step, i, batches.length));
    const losses: Losses = {};
    for (const part of Object.keys(parts[0] ?? {}) as (keyof Losses)[])
      losses[part] = parts.reduce((sum, p) => sum + (p[part] ?? NaN), 0) / parts.length;
    for (const part of mustBeFinite) {
      const value = losses[part];
      if (value !== undefined && !Number.isFinite(value)) throw new UserError(`the ${part} loss is ${value}`);
    }
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
  #gradients(batch: TrainingBatch, step: number, index: number, count: number): Losses {
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

  /** The same for stage uncertainty: the network stands still, the confidence branch learns the genuine pairs (Eq. 16). */
  #uncertaintyGradients(batch: TrainingBatch, _step: number, _index: number, count: number): Losses {
    this.backbone.evaluate();
    const { confidence } = this.loss;
    if (!confidence) throw new UserError('stage: uncertainty needs a confidence branch');
    return scope(() => {
      const { f, x } = noGrad(() => {
        const { embedding, features } = this.backbone.forward(
          this.#prepare(batch.pixels, batch.augmentation),
        );
        const wide = (t: Tensor) => cast(t, accumulator(t.dtype));
        return { f: groupNormalize(wide(embedding), this.config.loss.groups), x: wide(features) };
      });
      const tape = new Tape();
      const { total, s } = tape.record(() => {
        const s = confidence.forward(x);
        return { total: affine(uncertaintyLoss(f, s, batch.labels), 1 / count), s };
      });
      const values = { uncertainty: count * total.item(), confidence: noGrad(() => mean(s)).item() };
      tape.backward(total);
      return values;
    });
  }

  #prepare(pixels: Uint8Array, augmentation: Int32Array): Tensor {
    return networkInput(this.config, this.device, { pixels, augmentation });
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
