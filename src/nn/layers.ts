/** Layers with parameters. Images are NHWC; parameters are float32, or float64 where all is, whatever the type of the activations. */
import {
  batchNorm,
  batchNormAdd,
  batchNormPrelu,
  type BatchNormOptions,
} from '../autograd/ops/batch-norm.js';
import { conv2d } from '../autograd/ops/conv2d.js';
import { dropout } from '../autograd/ops/dropout.js';
import { linear } from '../autograd/ops/linear.js';
import { HostNumber } from '../tensor/recording.js';
import { scope } from '../tensor/scope.js';
import { full, type Tensor } from '../tensor/tensor.js';
import type { Initialiser } from './initialise.js';
import { Module } from './module.js';

/** A module from one tensor to one tensor. */
export interface Layer extends Module {
  /** Its value for x; recorded where a tape records. */
  forward(x: Tensor): Tensor;
}

/**
 * Convolution without bias, for a batch normalisation behind it; padding keeps the size at stride 1.
 * Weight [outputs, size, size, inputs / groups].
 */
export class Convolution extends Module implements Layer {
  readonly weight: Tensor;
  constructor(
    init: Initialiser,
    inputs: number,
    outputs: number,
    /** As those of `conv2d`; `size` is the side of the filter in pixels. */
    readonly options: { size: number; stride?: number; padding?: number; groups?: number },
  ) {
    super();
    const { size, groups = 1 } = options;
    this.weight = init.kaiming([outputs, size, size, inputs / groups]);
  }
  forward(x: Tensor): Tensor {
    const { size, stride = 1, padding = (size - 1) / 2, groups = 1 } = this.options;
    return conv2d(x, this.weight, { stride, padding, groups, statistics: this.training });
  }
}

/** y = x weight^T + bias. Weight [outputs, inputs], normal with standard deviation `deviation`. */
export class Linear extends Module implements Layer {
  readonly weight: Tensor;
  /** [outputs], 0 at first. */
  readonly bias: Tensor | undefined;
  constructor(
    init: Initialiser,
    inputs: number,
    outputs: number,
    { bias = true, deviation = Math.sqrt(1 / inputs) }: { bias?: boolean; deviation?: number } = {},
  ) {
    super();
    this.weight = init.normal([outputs, inputs], deviation);
    this.bias = bias ? init.constant([outputs], 0) : undefined;
  }
  forward(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias);
  }
}

/** Batch normalisation over the last axis (Ioffe & Szegedy 2015). */
export class BatchNorm extends Module implements Layer {
  /** Parameter [channels], 1 at first. */
  readonly gamma: Tensor;
  /** Parameter [channels], 0 at first. */
  readonly beta: Tensor;
  /** Running mean [channels], a buffer. */
  readonly mean: Tensor;
  /** Running variance [channels], a buffer. */
  readonly variance: Tensor;
  constructor(
    init: Initialiser,
    channels: number,
    readonly options: Pick<BatchNormOptions, 'momentum' | 'epsilon' | 'statistics'> = {},
  ) {
    super();
    this.gamma = init.constant([channels], 1);
    this.beta = init.constant([channels], 0);
    const buffer = { ...init.options, label: 'running statistics' };
    this.mean = full([channels], 0, buffer);
    this.variance = full([channels], 1, buffer);
  }
  forward(x: Tensor): Tensor {
    return batchNorm(x, this.gamma, this.beta, this.#running, this.#options);
  }
  /** forward(x) + residual, in one pass over memory. */
  forwardAdd(x: Tensor, residual: Tensor): Tensor {
    return batchNormAdd(x, this.gamma, this.beta, residual, this.#running, this.#options);
  }
  /** PReLU of forward(x), in one pass over memory. */
  forwardPrelu(x: Tensor, slope: Tensor): Tensor {
    return batchNormPrelu(x, this.gamma, this.beta, slope, this.#running, this.#options);
  }
  get #running() {
    return { mean: this.mean, variance: this.variance };
  }
  get #options() {
    return { ...this.options, training: this.training };
  }
}

/** Batch normalisation, then PReLU with one slope a channel, 0.25 at first. */
export class BatchNormPReLU extends Module implements Layer {
  readonly normalise: BatchNorm;
  readonly slope: Tensor;
  constructor(init: Initialiser, channels: number, options: BatchNorm['options'] = {}) {
    super();
    this.normalise = new BatchNorm(init, channels, options);
    this.slope = init.constant([channels], 0.25);
  }
  forward(x: Tensor): Tensor {
    return this.normalise.forwardPrelu(x, this.slope);
  }
}

/** Sets elements to zero with a probability while training. `seed` and `step` make the draw; whoever trains advances the step. */
export class Dropout extends Module implements Layer {
  /** 0 at first. */
  readonly step = new HostNumber();
  constructor(
    readonly probability: number,
    readonly seed: number,
  ) {
    super();
  }
  forward(x: Tensor): Tensor {
    if (!this.training || this.probability === 0) return x;
    return dropout(x, this.probability, { seed: this.seed, step: this.step });
  }
}

/** Layers in a row; what they give each other is freed at the end. */
export class Sequential extends Module implements Layer {
  readonly layers: readonly Layer[];
  constructor(...layers: Layer[]) {
    super();
    this.layers = layers;
  }
  forward(x: Tensor): Tensor {
    return scope(() => this.layers.reduce((y, layer) => layer.forward(y), x));
  }
}
