/**
 * What a stage of training has in common with the others: modules with parameters, an optimiser and a second one for what plays
 * against it; one update from batches; and the state that a checkpoint keeps. A stage gives the gradients of a batch.
 */
import type { Config } from '../config/index.js';
import type { Batch } from '../data/loader.js';
import type { LossPart } from '../method/universal-loss.js';
import type { Module } from '../nn/module.js';
import type { Optimizer, OptimizerOptions } from '../nn/optimizer.js';
import { rateFactor } from '../nn/schedule.js';
import { device as deviceOf, type Device } from '../tensor/device.js';
import { UserError } from '../tensor/errors.js';
import { scope } from '../tensor/scope.js';
import type { Tensor } from '../tensor/tensor.js';
import { Repetition } from './repetition.js';

/** What an update takes of a batch; `soft` [B, T] are labels of mined variations, NaN where unknown. */
export type TrainingBatch = Pick<Batch, 'pixels' | 'labels' | 'augmentation' | 'variations'> & {
  readonly soft?: Float32Array | undefined;
};

/** The losses of a stage: those of the whole method; the mean −score of genuine pairs (`uncertainty`) and the mean s; or those of Eq. 15. */
export type Losses = Partial<Record<LossPart | 'uncertainty' | 'attributes', number>>;

/** What an update does, in order; with several batches all but the optimiser several times. */
export const phases = ['input', 'forward', 'loss', 'backward', 'optimiser'] as const;
export type Phase = (typeof phases)[number];
/** A stretch of an update that the device can do by itself. */
type Stretch = Phase | 'norms';

/** What one update tells: the losses (means over the images), the rate used, and the norm of the gradients before clipping. */
export interface UpdateReport {
  losses: Losses;
  learningRate: number;
  gradientNorm: number;
}

export function optimizerOptions(config: Config['optimizer']): OptimizerOptions {
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
  'attributes',
] as const;

export function prefixed(prefix: string, tensors: ReadonlyMap<string, Tensor>): [string, Tensor][] {
  return [...tensors].map(([name, t]) => [`${prefix}.${name}`, t]);
}

export abstract class Learner {
  readonly device: Device;
  /** The network and what the loss learns; a checkpoint has their names before those of their tensors. */
  protected abstract readonly modules: { readonly network: Module; readonly loss: Module };
  abstract readonly optimizer: Optimizer;
  /** That of the discriminator or adversary. */
  abstract readonly discriminatorOptimizer: Optimizer | undefined;
  /** Told when a phase of an update begins. The device may not have done what it was given in the one before. */
  onPhase: ((phase: Phase) => void) | undefined;
  /** What updates do on the device. */
  readonly rounds: Repetition<Stretch>;

  /** @param identities N, of the training images */
  constructor(
    readonly config: Config,
    readonly identities: number,
  ) {
    this.device = deviceOf(config.device);
    this.rounds = new Repetition(this.device);
    this.rounds.onStretch = (stretch) => {
      if (stretch !== 'norms') this.onPhase?.(stretch);
    };
  }

  /**
   * Adds the gradients of one batch, number `index` of `count`, weighted by 1 / count, to the parameters. What it returns reads the
   * losses back, once the device has them.
   */
  protected abstract gradients(
    batch: TrainingBatch,
    step: number,
    index: number,
    count: number,
  ): () => Losses;

  /** Whether two updates from batches of one size differ in nothing but what is uploaded and in `HostNumber`s. */
  protected get repeats(): boolean {
    return false;
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
    const sizes = batches.map(({ pixels, labels, soft }) =>
      [pixels, labels, soft].map((array) => array?.length),
    );
    this.rounds.begin(this.repeats ? String(sizes) : undefined);
    try {
      return scope(() => ({ ...this.#update(batches, step, steps) }));
    } catch (error) {
      this.rounds.forget();
      throw error;
    }
  }

  #update(batches: readonly TrainingBatch[], step: number, steps: number): UpdateReport {
    const both = [this.optimizer, this.discriminatorOptimizer].filter((one) => one !== undefined);
    const readers = batches.map((batch, i) => this.gradients(batch, step, i, batches.length));
    this.rounds.compute(['norms'], (enter) => {
      enter('norms');
      for (const one of both) one.measureGradients();
      return {};
    });
    const parts = readers.map((read) => read());
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
    const [gradientNorm = NaN] = both.map((one) => one.gradientNorm());
    const learningRate = optimizer.lr * factor;
    this.optimizer.advance(learningRate);
    this.discriminatorOptimizer?.advance(discriminator.optimizer.lr * factor);
    this.rounds.compute(['optimiser'], (enter) => {
      enter('optimiser');
      if (clip !== null) this.optimizer.clip(clip);
      for (const one of both) one.apply();
      return {};
    });
    return { losses, learningRate, gradientNorm };
  }

  /** All that is needed to continue, beside the number of steps done. */
  state(): Map<string, Tensor> {
    return new Map([
      ...prefixed('network', this.modules.network.state()),
      ...prefixed('loss', this.modules.loss.state()),
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
    this.rounds.forget();
    this.optimizer.dispose();
    this.discriminatorOptimizer?.dispose();
    this.modules.network.dispose();
    this.modules.loss.dispose();
  }
}

function schedule({ schedule: s }: Config) {
  const { name, warmup_steps: warmupSteps, milestones, gamma, power, final } = s;
  return { name, warmupSteps, milestones, gamma, power, final };
}
