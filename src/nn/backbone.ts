/** What the models have in common: an image goes in, an embedding and the features it was made from come out. */
import { reshape } from '../autograd/ops/shape.js';
import { check } from '../tensor/errors.js';
import { scope } from '../tensor/scope.js';
import type { Tensor } from '../tensor/tensor.js';
import type { Initialiser } from './initialise.js';
import { BatchNorm, Dropout, Linear, type Layer } from './layers.js';
import { Module } from './module.js';

/** What a network makes of B images. */
export interface BackboneOutput {
  /** [B, D], float32, not normalised. */
  embedding: Tensor;
  /** [B, F], of the type of the images: what the last linear layer reads, before dropout; the confidence branch reads it too. */
  features: Tensor;
}

/**
 * A body of blocks, then flatten, dropout, linear and batch normalisation. The input is [B, size, size, 3], float32 or bfloat16;
 * the blocks compute in its type, the embedding is float32. What a block makes and no gradient needs is freed at its end.
 */
export class Backbone extends Module {
  /** F features to D. */
  readonly embed: Linear;
  /** Of the embedding; it is the last layer. */
  readonly normalise: BatchNorm;
  /** Of the features, before `embed`. */
  readonly dropout: Dropout;
  constructor(
    init: Initialiser,
    readonly body: readonly Layer[],
    /** Side of the square images in pixels. */
    readonly inputSize: number,
    /** Length F of the flattened features. */
    readonly featureSize: number,
    /** Length D of the embedding. */
    readonly embeddingSize: number,
    dropout: number,
    bias: boolean,
  ) {
    super();
    this.embed = new Linear(init, featureSize, embeddingSize, { bias });
    this.normalise = new BatchNorm(init, embeddingSize);
    this.dropout = new Dropout(dropout, init.seed);
  }

  /** @throws ShapeError for images of another size */
  forward(images: Tensor): BackboneOutput {
    const size = this.inputSize;
    check(
      images.rank === 4 && images.dim(1) === size && images.dim(2) === size && images.dim(3) === 3,
      'backbone',
      `images [B, ${size}, ${size}, 3]`,
      () => images.toString(),
    );
    return scope(() => {
      const y = this.body.reduce((x, block) => {
        const next = scope(() => block.forward(x));
        if (x !== images && x !== next) x.dispose();
        return next;
      }, images);
      const features = reshape(y, [y.dim(0), this.featureSize]);
      const embedding = this.normalise.forward(this.embed.forward(this.dropout.forward(features)));
      return { embedding, features };
    });
  }
}
