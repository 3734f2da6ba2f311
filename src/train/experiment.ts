/**
 * An experiment on a device, built from its configuration: the network, the loss with what it learns, their optimisers, and the
 * embeddings of images. It learns in stage identification or uncertainty.
 */
import { cast } from '../autograd/ops/cast.js';
import { groupNormalize } from '../autograd/ops/group-normalize.js';
import { mean } from '../autograd/ops/reduce.js';
import { affine } from '../autograd/ops/unary.js';
import { noGrad, Tape } from '../autograd/tape.js';
import { softLabelCount, type Config } from '../config/index.js';
import { activeVariations, variationTargets, type Variation } from '../method/variations.js';
import { uncertaintyLoss } from '../method/uncertainty.js';
import { readLossParts, UniversalLoss } from '../method/universal-loss.js';
import { accumulator } from '../tensor/dtype.js';
import type { Backbone } from '../nn/backbone.js';
import { Initialiser } from '../nn/initialise.js';
import { buildBackbone } from '../nn/models.js';
import { Optimizer } from '../nn/optimizer.js';
import { Learner, optimizerOptions, prefixed, type Losses, type TrainingBatch } from './learner.js';
import { Repetition } from './repetition.js';
import { augmentedInput, imageArrays, networkInput } from './network-input.js';
import { UserError } from '../tensor/errors.js';
import { scope } from '../tensor/scope.js';
import { full, type Tensor } from '../tensor/tensor.js';

export interface Embeddings {
  /** [n, D], each of the K groups of length 1. */
  embedding: Float32Array;
  /** s [n, K], or undefined when the loss has no confidences. */
  confidence: Float32Array | undefined;
}

export class Experiment extends Learner {
  protected readonly modules;
  readonly backbone: Backbone;
  readonly loss: UniversalLoss;
  readonly optimizer: Optimizer;
  /** The discriminator's own optimiser. */
  readonly discriminatorOptimizer: Optimizer | undefined;
  readonly #active: Variation[];
  /** What `embed` does on the device. */
  readonly #embedding: Repetition;

  /** @param drawn whether it starts from random weights; else from zeros, for a checkpoint to set */
  constructor(config: Config, identities: number, drawn = true) {
    super(config, identities);
    this.#embedding = new Repetition(this.device);
    const init = new Initialiser(config.seed, { device: this.device }, drawn);
    this.backbone = buildBackbone(init, config.model);
    this.#active = activeVariations(config.augment);
    const { embeddingSize, featureSize } = this.backbone;
    this.loss = new UniversalLoss(
      init,
      { identities, embeddingSize, featureSize, variations: this.#active.length + softLabelCount(config) },
      config.loss,
      config.precision,
    );
    this.modules = { network: this.backbone, loss: this.loss };
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

  protected override get repeats(): boolean {
    return this.config.stage !== 'uncertainty';
  }

  protected gradients(batch: TrainingBatch, step: number, index: number, count: number): () => Losses {
    return this.config.stage === 'uncertainty'
      ? this.#uncertaintyGradients(batch, count)
      : this.#identificationGradients(batch, step, index, count);
  }

  #identificationGradients(batch: TrainingBatch, step: number, index: number, count: number): () => Losses {
    if (!this.backbone.training) this.backbone.train();
    this.backbone.dropout.step.value = step * count + index;
    this.loss.step = step;
    this.#embedding.forget();
    const samples = batch.labels.length;
    this.onPhase?.('input');
    const { pixels, augmentation, labels, targets } = this.rounds.upload({
      ...imageArrays(this.config, batch),
      labels: { array: batch.labels, shape: [samples] },
      targets: {
        array: variationTargets(batch.variations, this.#active, batch.soft),
        shape: [samples, this.loss.sizes.variations],
      },
    });
    const { parts } = this.rounds.compute(['input', 'forward', 'loss', 'backward'], (enter) =>
      scope(() => {
        enter('input');
        const images = augmentedInput(this.config, pixels, augmentation);
        const tape = new Tape();
        const { total, parts } = tape.record(() => {
          enter('forward');
          const { embedding, features } = this.backbone.forward(images);
          enter('loss');
          return this.loss.forward({ embedding, features, labels, targets });
        });
        enter('backward');
        const { shape, device, dtype } = total;
        tape.backward(total, count === 1 ? undefined : full(shape, 1 / count, { device, dtype }));
        return { parts };
      }),
    );
    return () => readLossParts(parts);
  }

  /** Stage uncertainty: the network stands still, the confidence branch learns the genuine pairs (Eq. 16). */
  #uncertaintyGradients(batch: TrainingBatch, count: number): () => Losses {
    this.backbone.evaluate();
    const { confidence } = this.loss;
    if (!confidence) throw new UserError('stage: uncertainty needs a confidence branch');
    const values = scope(() => {
      const { f, x } = noGrad(() => {
        this.onPhase?.('input');
        const images = this.#prepare(batch.pixels, batch.augmentation);
        this.onPhase?.('forward');
        const { embedding, features } = this.backbone.forward(images);
        const wide = (t: Tensor) => cast(t, accumulator(t.dtype));
        return { f: groupNormalize(wide(embedding), this.config.loss.groups), x: wide(features) };
      });
      const tape = new Tape();
      this.onPhase?.('loss');
      const { total, s } = tape.record(() => {
        const s = confidence.forward(x);
        return { total: affine(uncertaintyLoss(f, s, batch.labels), 1 / count), s };
      });
      const values = { uncertainty: count * total.item(), confidence: noGrad(() => mean(s)).item() };
      this.onPhase?.('backward');
      tape.backward(total);
      return values;
    });
    return () => values;
  }

  #prepare(pixels: Uint8Array, augmentation: Int32Array): Tensor {
    return networkInput(this.config, this.device, { pixels, augmentation });
  }

  /** Embeddings of images [n, size, size, 3] with their augmentation parameters, in evaluation mode. */
  embed(pixels: Uint8Array, parameters: Int32Array): Embeddings {
    this.rounds.forget();
    this.backbone.evaluate();
    const rounds = this.#embedding;
    rounds.begin(String([pixels.length, parameters.length]));
    return noGrad(() =>
      scope(() => {
        const images = rounds.upload(imageArrays(this.config, { pixels, augmentation: parameters }));
        const { embedding, confidence } = rounds.compute(['embed'], (enter) =>
          scope(() => {
            enter('embed');
            const input = augmentedInput(this.config, images.pixels, images.augmentation);
            const { embedding, features } = this.backbone.forward(input);
            return {
              embedding: groupNormalize(embedding, this.config.loss.groups),
              confidence: this.loss.confidence?.forward(features),
            };
          }),
        );
        return {
          embedding: embedding.toArray() as Float32Array,
          confidence: confidence?.toArray() as Float32Array | undefined,
        };
      }),
    );
  }

  override dispose(): void {
    this.#embedding.forget();
    super.dispose();
  }
}
