import { noGrad } from '../autograd/tape.js';
import { add, mul } from '../autograd/ops/binary.js';
import { cast } from '../autograd/ops/cast.js';
import { groupNormalize } from '../autograd/ops/group-normalize.js';
import { mean, sum } from '../autograd/ops/reduce.js';
import { concat, reshape } from '../autograd/ops/shape.js';
import { affine } from '../autograd/ops/unary.js';
import type { Config } from '../config/schema.js';
import { UserError } from '../tensor/errors.js';
import { accumulator } from '../tensor/dtype.js';
import { HostNumber } from '../tensor/recording.js';
import { scope } from '../tensor/scope.js';
import { full, tensor, type Tensor } from '../tensor/tensor.js';
import type { Initialiser } from '../nn/initialise.js';
import { Module } from '../nn/module.js';
import { ConfidenceHead, confidenceRegulariser, slowed } from './confidence.js';
import { Discriminator } from './discriminator.js';
import { confidenceSoftmax, cosFace } from './identification.js';

/** Of what lengths the loss is made. */
export interface UniversalLossSizes {
  /** N, identities to tell apart. */
  identities: number;
  /** D, length of the embedding. */
  embeddingSize: number;
  /** Length of the features that the confidence branch reads. */
  featureSize: number;
  /** V, variations with labels. */
  variations: number;
}

/** What one forward pass is given. */
export interface LossBatch {
  /** The network's embedding [B, D], not normalised. */
  embedding: Tensor;
  /** What the embedding layer read [B, features]. */
  features: Tensor;
  /** int32 [B]. */
  labels: Tensor;
  /** û [B, V]; unused without a discriminator. */
  targets?: Tensor;
}

/** The entries of `UniversalLossResult.parts`, in order. A part that the configuration lacks is 0 (NaN for the confidence). */
export const lossParts = [
  'identification', // L_idt, mean over the batch
  'regulariser', // L_reg
  'discriminator', // L_C
  'classification', // L_cls
  'adversarial', // L_adv
  'confidence', // mean s
  'accuracy', // share of the images whose own logit, without margin, is the highest
] as const;
/** The name of an entry of `UniversalLossResult.parts`. */
export type LossPart = (typeof lossParts)[number];

/** What one forward pass gives. */
export interface UniversalLossResult {
  /** One element: what to call backward on. */
  total: Tensor;
  /** [7], without gradient, in the order of `lossParts`: one read-back serves the log. */
  parts: Tensor;
}

/**
 * The whole loss (§3.3, Eq. 14), with what it learns beside the network: prototypes, confidence branch, discriminator.
 *
 *     L = L_idt + λ_reg L_reg + λ_cls L_cls + λ_adv L_adv,  means over the batch,  and L_C for the discriminator
 *
 * One backward pass serves both optimisers, since L_C reaches the discriminator only and L_cls, L_adv the network only. The
 * paper's arms are configurations: `cosface` has no confidence branch, and without variations or with λ_cls = λ_adv = 0 there is
 * no discriminator.
 */
export class UniversalLoss extends Module {
  /** w [N, D], as they are learned: not normalised. */
  readonly prototypes: Tensor;
  /** With `type: confidence-softmax`. */
  readonly confidence: ConfidenceHead | undefined;
  /** Where there are variations and one of λ_cls and λ_adv is above 0. */
  readonly discriminator: Discriminator | undefined;
  /** (1, λ_cls, λ_adv); private, because it is no state. */
  readonly #weights: Tensor;
  /** That in force, in units of the logits. */
  readonly #margin = new HostNumber();

  constructor(
    init: Initialiser,
    readonly sizes: UniversalLossSizes,
    /** `loss` of an experiment. */
    readonly options: Config['loss'],
    /** Of the embeddings in the margin softmax; by default what they are in. */
    readonly precision?: Config['precision'],
  ) {
    super();
    const { identities, embeddingSize, featureSize, variations } = sizes;
    const { type, groups, confidence, lambda_cls, lambda_adv, masks } = options;
    if (embeddingSize % groups !== 0)
      throw new UserError(
        `loss: expected groups that divide the embedding of ${embeddingSize}, got ${groups}`,
      );
    // The scale of a prototype sets how far one update turns it: length 1 in all, whatever K.
    this.prototypes = init.normal([identities, embeddingSize], Math.sqrt(1 / embeddingSize));
    if (type === 'confidence-softmax')
      this.confidence = new ConfidenceHead(init, featureSize, groups, confidence);
    if (variations > 0 && lambda_cls + lambda_adv > 0)
      this.discriminator = new Discriminator(init, embeddingSize, groups, variations, masks.share);
    const { dtype, device } = this.prototypes;
    this.#weights = tensor([1, lambda_cls, lambda_adv], [3], { dtype, device, label: 'loss weights' });
    this.step = Infinity;
  }

  /** What the main optimiser trains, beside the network. */
  mainParameters(): Map<string, Tensor> {
    return new Map([...this.parameters()].filter(([name]) => !name.startsWith('discriminator.')));
  }
  /** What the discriminator's own optimiser trains; empty without one. */
  discriminatorParameters(): Map<string, Tensor> {
    return new Map([...this.parameters()].filter(([name]) => name.startsWith('discriminator.')));
  }

  /** Training's step (from 0), infinity until it is set: the margin grows from 0 over the warm-up. Whoever trains advances it. */
  set step(step: number) {
    const { margin_warmup_steps: steps, type, margin, scale, cosine_margin } = this.options;
    const share = step >= steps ? 1 : step / steps;
    if (type === 'confidence-softmax') this.#margin.value = share * margin;
    else if (type === 'cosface') this.#margin.value = scale * (share * cosine_margin);
  }

  /** @throws UserError when a discriminator has no targets */
  forward({ embedding, features, labels, targets }: LossBatch): UniversalLossResult {
    return scope(() => {
      const { groups, lambda_reg, scale, confidence } = this.options;
      // Sub-embeddings and losses are float32 also when activations are bfloat16; only the margin softmax takes g as bfloat16.
      const wide = (x: Tensor) => cast(x, accumulator(x.dtype));
      const f = groupNormalize(wide(embedding), groups);
      const s = this.confidence && slowed(this.confidence.forward(wide(features)), confidence.gradient_scale);
      const { loss, hit } = s
        ? confidenceSoftmax(f, s, this.prototypes, labels, this.#margin, this.precision)
        : cosFace(f, this.prototypes, labels, {
            scale,
            margin: this.#margin,
            groups,
            precision: this.precision,
          });
      const identification = mean(loss);
      const regulariser = s && mean(confidenceRegulariser(s));
      const variation = this.discriminator && mean(this.discriminator.forward(f, this.#targets(targets)), 0);
      let total = identification;
      if (regulariser && lambda_reg > 0) total = add(total, affine(regulariser, lambda_reg));
      if (variation) total = add(total, sum(mul(variation, this.#weights)));
      const parts = noGrad(() => {
        const { dtype, device } = loss;
        const constant = (n: number, value: number) => full([n], value, { dtype, device });
        return concat([
          reshape(identification, [1]),
          regulariser ? reshape(regulariser, [1]) : constant(1, 0),
          variation ?? constant(3, 0),
          s ? reshape(mean(s), [1]) : constant(1, NaN),
          reshape(mean(hit), [1]),
        ]);
      });
      return { total, parts };
    });
  }

  #targets(targets: Tensor | undefined): Tensor {
    if (!targets) throw new UserError('loss: expected the labels of the variations, got none');
    return targets;
  }

  override dispose(): void {
    super.dispose();
    this.#weights.dispose();
  }
}

/** The parts by name, read back from the device. */
export function readLossParts(parts: Tensor): Record<LossPart, number> {
  const values = parts.toArray();
  return Object.fromEntries(lossParts.map((name, i) => [name, values[i] as number])) as Record<
    LossPart,
    number
  >;
}
