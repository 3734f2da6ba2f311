import type { Tensor } from '../tensor/tensor.js';
import { Backbone } from './backbone.js';
import type { Initialiser } from './initialise.js';
import type { IResNetOptions } from './iresnet.js';
import { BatchNorm, BatchNormPReLU, Convolution, Sequential, type Layer } from './layers.js';
import { Module } from './module.js';

type ConvolutionOptions = ConstructorParameters<typeof Convolution>[3];

function unit(
  init: Initialiser,
  inputs: number,
  outputs: number,
  options: ConvolutionOptions,
  active = true,
) {
  const normalise = active ? new BatchNormPReLU(init, outputs) : new BatchNorm(init, outputs);
  return new Sequential(new Convolution(init, inputs, outputs, options), normalise);
}

/** 1x1 to `width` channels, depthwise 3x3, 1x1 to `outputs`; added to its input at stride 1 where the caller says so. */
export class Bottleneck extends Module implements Layer {
  readonly path: Sequential;
  /** The end of the path, under names that are no state. */
  readonly #project: Convolution;
  readonly #normalise: BatchNorm;
  constructor(
    init: Initialiser,
    inputs: number,
    width: number,
    outputs: number,
    stride: number,
    readonly residual: boolean,
  ) {
    super();
    const expand = unit(init, inputs, width, { size: 1 });
    const filter = unit(init, width, width, { size: 3, stride, groups: width });
    this.#project = new Convolution(init, width, outputs, { size: 1 });
    this.#normalise = new BatchNorm(init, outputs);
    this.path = new Sequential(expand, filter, new Sequential(this.#project, this.#normalise));
  }
  forward(x: Tensor): Tensor {
    if (!this.residual) return this.path.forward(x);
    const [expand, filter] = this.path.layers as [Layer, Layer];
    return this.#normalise.forwardAdd(this.#project.forward(filter.forward(expand.forward(x))), x);
  }
}

/** Stages: [outputs, width of the halving block, blocks that follow, their width]. */
const stages = [
  [64, 128, 4, 128],
  [128, 256, 6, 256],
  [128, 512, 2, 256],
] as const;

/** The size of a MobileFaceNet, as in `IResNetOptions`. */
export type MobileFaceNetOptions = Pick<IResNetOptions, 'inputSize' | 'embeddingSize' | 'dropout'>;

/**
 * MobileFaceNet (Chen et al. 2018): depthwise separable convolutions with inverted residuals, and a depthwise convolution over
 * the whole last map in place of pooling.
 */
export function mobilefacenet(init: Initialiser, options: MobileFaceNetOptions): Backbone {
  const { inputSize, embeddingSize, dropout = 0 } = options;
  const body: Layer[] = [
    unit(init, 3, 64, { size: 3, stride: 2 }),
    unit(init, 64, 64, { size: 3, groups: 64 }),
  ];
  let inputs = 64;
  let side = Math.ceil(inputSize / 2);
  for (const [outputs, halving, count, width] of stages) {
    body.push(new Bottleneck(init, inputs, halving, outputs, 2, false));
    for (let i = 0; i < count; i++) body.push(new Bottleneck(init, outputs, width, outputs, 1, true));
    inputs = outputs;
    side = Math.ceil(side / 2);
  }
  body.push(unit(init, inputs, 512, { size: 1 }));
  body.push(unit(init, 512, 512, { size: side, padding: 0, groups: 512 }, false));
  return new Backbone(init, body, inputSize, 512, embeddingSize, dropout, false);
}
