/**
 * The identification losses (§3.1, §3.2). All are one margin softmax over logits a_ij = g_i · w_j with the prototypes
 * normalised group by group; they differ in g and in the margin m:
 *
 *     C-Softmax with sub-embeddings (Eq. 8, 9)   g^(k) = s_i^(k)/K f_i^(k), learned s;   m as it is
 *     C-Softmax (Eq. 6)                          the same with K = 1
 *     CosFace                                    g = scale/K f;                          m = scale × cosine margin
 *     softmax of cosines                         g = scale/K f;                          m = 0
 *
 * g may be rounded to bfloat16, 2^-8 of it, before the products with the prototypes, which themselves are not; that is what CUDA's
 * matrix units take.
 */
import { cast } from '../autograd/ops/cast.js';
import { affine } from '../autograd/ops/unary.js';
import { mul } from '../autograd/ops/binary.js';
import { marginSoftmax, type MarginSoftmax } from '../autograd/ops/margin-softmax.js';
import { reshape } from '../autograd/ops/shape.js';
import type { FloatType } from '../tensor/dtype.js';
import type { HostNumber } from '../tensor/recording.js';
import { scope } from '../tensor/scope.js';
import type { Tensor } from '../tensor/tensor.js';

/** g [B, D]: each group of f [B, D] times its confidence s [B, K], over K. */
export function scaleByConfidence(f: Tensor, s: Tensor): Tensor {
  const [samples, size, groups] = [f.dim(0), f.dim(1), s.dim(1)];
  return scope(() => {
    const parts = reshape(f, [samples, groups, size / groups]);
    const scales = reshape(affine(s, 1 / groups), [samples, groups, 1]);
    return reshape(mul(parts, scales), [samples, size]);
  });
}

const rounded = (g: Tensor, precision: FloatType | undefined) => (precision ? cast(g, precision) : g);

/** Eq. 8 (Eq. 6 with K = 1): f [B, D] with normalised groups, s [B, K]; `margin` in units of the logits; g in `precision`, if given. */
export function confidenceSoftmax(
  f: Tensor,
  s: Tensor,
  prototypes: Tensor,
  labels: Tensor,
  margin: number | HostNumber,
  precision?: FloatType,
): MarginSoftmax {
  return scope(() => {
    const g = rounded(scaleByConfidence(f, s), precision);
    return marginSoftmax(g, prototypes, labels, { groups: s.dim(1), margin });
  });
}

/** The numbers of CosFace. */
export interface CosFaceOptions {
  /** What a cosine is multiplied by. */
  scale: number;
  /** In units of the logits: the scale times the margin of the cosine. */
  margin: number | HostNumber;
  /** K; 1 when left out. */
  groups?: number;
  /** What g is rounded to, if anything. */
  precision?: FloatType | undefined;
}

/** CosFace (Wang et al. 2018): one constant scale, a margin of the cosine; plain softmax where that margin is 0. */
export function cosFace(
  f: Tensor,
  prototypes: Tensor,
  labels: Tensor,
  { scale, margin, groups = 1, precision }: CosFaceOptions,
): MarginSoftmax {
  return scope(() => {
    const g = rounded(affine(f, scale / groups), precision);
    return marginSoftmax(g, prototypes, labels, { groups, margin });
  });
}
