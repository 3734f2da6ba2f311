import { add } from '../autograd/ops/binary.js';
import { linear } from '../autograd/ops/linear.js';
import { mean } from '../autograd/ops/reduce.js';
import { affine, exp, softplus, square } from '../autograd/ops/unary.js';
import { noGrad } from '../autograd/tape.js';
import { UserError } from '../tensor/errors.js';
import { scope } from '../tensor/scope.js';
import type { Tensor } from '../tensor/tensor.js';
import type { Initialiser } from '../nn/initialise.js';
import { Module } from '../nn/module.js';

/** What makes a confidence positive, and what it is at first. */
export interface ConfidenceOptions {
  /** log(1 + e^z) or e^z. */
  activation: 'softplus' | 'exp';
  /** s of an untrained branch, for every image: the weights start at 0. */
  initial: number;
  /** s never falls below this; it keeps σ² = 1 / s finite. 1e-4 when left out. */
  minimum?: number;
}

/**
 * The confidence branch (§3.1, §3.2): s_i^(k) = 1 / σ² > 0 for each sub-embedding of an image, from the features that the
 * embedding layer reads too, s = activation(W x + b) + minimum.
 */
export class ConfidenceHead extends Module {
  /** W [K, features]. */
  readonly weight: Tensor;
  /** b [K]. */
  readonly bias: Tensor;
  /** That in force. */
  readonly minimum: number;

  /** @param features length of x; @param groups K. @throws UserError for an initial value that is not above the minimum */
  constructor(
    init: Initialiser,
    features: number,
    groups: number,
    readonly options: ConfidenceOptions,
  ) {
    super();
    const { activation, initial, minimum = 1e-4 } = options;
    this.minimum = minimum;
    const above = initial - minimum;
    if (!(above > 0))
      throw new UserError(`confidence: expected an initial value above ${minimum}, got ${initial}`);
    this.weight = init.constant([groups, features], 0);
    // The inverse of the activation: log(e^s - 1) for softplus, without overflow.
    this.bias = init.constant(
      [groups],
      activation === 'exp' ? Math.log(above) : above + Math.log(-Math.expm1(-above)),
    );
  }

  /** x [B, features] to s [B, K]. */
  forward(x: Tensor): Tensor {
    const activation = this.options.activation === 'exp' ? exp : softplus;
    return scope(() => add(activation(linear(x, this.weight, this.bias)), this.minimum));
  }
}

/** s itself, through which only `share` of a gradient passes. */
export function slowed(s: Tensor, share: number): Tensor {
  return share === 1
    ? s
    : add(
        affine(s, share),
        noGrad(() => affine(s, 1 - share)),
      );
}

/** The regulariser on confidences (Eq. 10), for each image [B]: L_reg = (1/K) Σ_k (s^(k))². */
export function confidenceRegulariser(s: Tensor): Tensor {
  return scope(() => mean(square(s), 1));
}
