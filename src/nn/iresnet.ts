import { check } from '../tensor/errors.js';
import { formatShape } from '../tensor/shape.js';
import type { Tensor } from '../tensor/tensor.js';
import { Backbone } from './backbone.js';
import type { Initialiser } from './initialise.js';
import { BatchNorm, BatchNormPReLU, Convolution, Sequential, type Layer } from './layers.js';
import { Module } from './module.js';

/** The size of an IResNet. */
export interface IResNetOptions {
  /** Side of the square images in pixels. */
  inputSize: number;
  /** Length D of the embedding. */
  embeddingSize: number;
  /** Of each stage; the stem has those of the first. */
  channels: readonly number[];
  /** Of each stage; `iresnetBlocks` has the usual ones. */
  blocks: readonly number[];
  /** The probability with which a feature is left out before the embedding; 0 when left out. */
  dropout?: number;
}

/** Blocks per stage by depth. */
export const iresnetBlocks = {
  iresnet18: [2, 2, 2, 2],
  iresnet34: [3, 4, 6, 3],
  iresnet50: [3, 4, 14, 3],
  iresnet100: [3, 13, 30, 3],
} as const;

export class Block extends Module implements Layer {
  readonly residual: Sequential;
  readonly normalise: BatchNorm;
  readonly shortcut: Sequential | undefined;
  constructor(init: Initialiser, inputs: number, outputs: number, stride: number) {
    super();
    this.residual = new Sequential(
      new BatchNorm(init, inputs),
      new Convolution(init, inputs, outputs, { size: 3 }),
      new BatchNormPReLU(init, outputs),
      new Convolution(init, outputs, outputs, { size: 3, stride }),
    );
    this.normalise = new BatchNorm(init, outputs, { statistics: true });
    if (stride !== 1 || inputs !== outputs)
      this.shortcut = new Sequential(
        new Convolution(init, inputs, outputs, { size: 1, stride }),
        new BatchNorm(init, outputs),
      );
  }
  forward(x: Tensor): Tensor {
    return this.normalise.forwardAdd(this.residual.forward(x), this.shortcut ? this.shortcut.forward(x) : x);
  }
}

/**
 * IResNet (Duta et al., "Improved Residual Networks", 2020, in the form the field uses for faces): a 3x3 stem, stages (usually four) of
 * blocks BN-conv-BN-PReLU-conv-BN whose first block halves the size, then BN and a linear layer over all positions.
 * @throws ShapeError unless each stage has its channels and its blocks
 */
export function iresnet(init: Initialiser, options: IResNetOptions): Backbone {
  const { inputSize, embeddingSize, channels, blocks, dropout = 0 } = options;
  check(
    channels.length > 0 && blocks.length === channels.length,
    'iresnet',
    'channels and blocks of each stage',
    () => `channels ${formatShape(channels)} and blocks ${formatShape(blocks)}`,
  );
  let inputs = channels[0] as number;
  let side = inputSize;
  const body: Layer[] = [
    new Sequential(
      new Convolution(init, 3, inputs, { size: 3 }),
      new BatchNormPReLU(init, inputs, { statistics: true }),
    ),
  ];
  channels.forEach((outputs, stage) => {
    for (let i = 0; i < (blocks[stage] as number); i++) {
      body.push(new Block(init, inputs, outputs, i === 0 ? 2 : 1));
      inputs = outputs;
    }
    side = Math.ceil(side / 2);
  });
  body.push(new BatchNorm(init, inputs));
  return new Backbone(init, body, inputSize, side * side * inputs, embeddingSize, dropout, true);
}
