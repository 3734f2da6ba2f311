/**
 * The attribute model's losses (§3.4, Eq. 15). Its feature f tells T attributes, and an adversary D_A reads the identity from it:
 *
 *     min over the model   −log p(l|x) − λ (1/N) Σ_c log p(y=c|x)      (the paper: λ = 1)
 *     min over D_A         −log p(y=y_x|x)
 *
 * Shapes: B images, D feature, T attributes, N identities. The feature has length √D, so that the model cannot hide the identity by
 * making it small. Attributes and identities are each told by one linear layer.
 */
import { add, mul, sub } from '../autograd/ops/binary.js';
import { gatherRows } from '../autograd/ops/gather-rows.js';
import { groupNormalize } from '../autograd/ops/group-normalize.js';
import { linear } from '../autograd/ops/linear.js';
import { logSumExp } from '../autograd/ops/log-sum-exp.js';
import { mean, sum } from '../autograd/ops/reduce.js';
import { concat, reshape } from '../autograd/ops/shape.js';
import { affine, softplus } from '../autograd/ops/unary.js';
import { noGrad } from '../autograd/tape.js';
import type { Initialiser } from '../nn/initialise.js';
import { Linear } from '../nn/layers.js';
import { Module } from '../nn/module.js';
import { tensor, type Tensor } from '../tensor/tensor.js';

/** A linear softmax classifier: weight [N, D], bias [N]. */
export interface Classifier {
  readonly weight: Tensor;
  readonly bias: Tensor;
}

/** One that learns. */
export class SoftmaxClassifier extends Module implements Classifier {
  readonly weight: Tensor;
  readonly bias: Tensor;
  constructor(init: Initialiser, size: number, classes: number) {
    super();
    this.weight = init.normal([classes, size], Math.sqrt(1 / size));
    this.bias = init.constant([classes], 0);
  }
}

/** −log p(y=labels|x) of each row: x [B, D], labels int32 [B]. Gives [B]. */
export function crossEntropy(x: Tensor, { weight, bias }: Classifier, labels: Tensor): Tensor {
  const own = add(
    sum(mul(x, gatherRows(weight, labels)), 1),
    reshape(gatherRows(reshape(bias, [bias.size, 1]), labels), [labels.size]),
  );
  return sub(logSumExp(linear(x, weight, bias)), own);
}

/** −(1/N) Σ_c log p(y=c|x) of each row: smallest, log N, where no class is likelier than another. x [B, D]. Gives [B]. */
export function uniformCrossEntropy(x: Tensor, { weight, bias }: Classifier): Tensor {
  const logits = linear(x, weight, bias);
  return sub(logSumExp(logits), mean(logits, 1));
}

/**
 * −log p(l|x) of each row, summed over its known attributes: logits [B, T]; targets [B, T] in [0, 1], NaN or negative where unknown.
 * Gives [B].
 */
export function attributeCrossEntropy(logits: Tensor, targets: Float32Array): Tensor {
  const { shape, device, dtype } = logits;
  const of = (f: (u: number) => number) =>
    tensor(Float64Array.from(targets, f), shape, { device, dtype, label: 'attributes' });
  const known = of((u) => Number(u >= 0));
  const value = of((u) => (u >= 0 ? u : 0));
  return sum(mul(sub(softplus(logits), mul(logits, value)), known), 1);
}

/** The same tensor, through which no gradient passes. */
const still = (x: Tensor) => x.view(x.shape);

/** The entries of `AttributeLossResult.parts`: means over the batch of −log p(l|x), of D_A's loss and of the uniform one. */
export const attributeLossParts = ['attributes', 'discriminator', 'adversarial'] as const;

export interface AttributeLossResult {
  /** One element; its gradient reaches D_A by D_A's own loss only, and everything else by the model's only. */
  total: Tensor;
  /** [3] */
  parts: Tensor;
}

/** The two linear layers, and Eq. 15 on them. */
export class AttributeLoss extends Module {
  readonly attributes: Linear;
  readonly adversary: SoftmaxClassifier;

  constructor(
    init: Initialiser,
    readonly sizes: { identities: number; embeddingSize: number; attributes: number },
    readonly lambda: number,
  ) {
    super();
    this.attributes = new Linear(init, sizes.embeddingSize, sizes.attributes);
    this.adversary = new SoftmaxClassifier(init, sizes.embeddingSize, sizes.identities);
  }

  /** The feature [B, D], of length √D, of the network's embedding [B, D]. */
  feature(embedding: Tensor): Tensor {
    return affine(groupNormalize(embedding, 1), Math.sqrt(this.sizes.embeddingSize));
  }

  /** @param labels int32 [B] */
  forward(embedding: Tensor, labels: Tensor, targets: Float32Array): AttributeLossResult {
    const f = this.feature(embedding);
    const { weight, bias } = this.adversary;
    const attributes = mean(attributeCrossEntropy(this.attributes.forward(f), targets));
    const discriminator = mean(crossEntropy(still(f), this.adversary, labels));
    const adversarial = mean(uniformCrossEntropy(f, { weight: still(weight), bias: still(bias) }));
    const total = add(add(attributes, affine(adversarial, this.lambda)), discriminator);
    const parts = noGrad(() => concat([attributes, discriminator, adversarial].map((x) => reshape(x, [1]))));
    return { total, parts };
  }
}
