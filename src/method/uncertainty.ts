/**
 * Uncertainty (§3.5). With σ² = 1 / s of each sub-embedding, the likelihood that two images show one person:
 *
 *     score(i, j) = −½ Σ_k ‖f_i^(k) − f_j^(k)‖² / (σ_i^(k)² + σ_j^(k)²) − (D / 2K) Σ_k log(σ_i^(k)² + σ_j^(k)²)      (16)
 *
 * The confidences learned with the identification loss are too sure. So the confidence branch alone is trained again, to make the
 * genuine pairs of a batch likely (Shi and Jain, "Probabilistic Face Embeddings", ICCV 2019): the loss is their mean −score.
 * Shapes: B images, P pairs, D embedding, K sub-embeddings of length d = D / K.
 */
import { add, div, sub } from '../autograd/ops/binary.js';
import { gatherRows } from '../autograd/ops/gather-rows.js';
import { mean, sum } from '../autograd/ops/reduce.js';
import { reshape } from '../autograd/ops/shape.js';
import { affine, log, neg, square } from '../autograd/ops/unary.js';
import { check, UserError } from '../tensor/errors.js';
import { scope } from '../tensor/scope.js';
import { tensor, type Tensor } from '../tensor/tensor.js';

/**
 * Eq. 16 for each row: f_a, f_b [P, D], every group of length 1; s_a, s_b [P, K]. Gives [P].
 * @throws ShapeError for a K that does not divide D
 */
export function mutualLikelihood(fa: Tensor, fb: Tensor, sa: Tensor, sb: Tensor): Tensor {
  const [pairs, width, groups] = [fa.dim(0), fa.dim(1), sa.dim(1)];
  check(width % groups === 0, 'mutualLikelihood', `confidences of a divisor of ${width} groups`, () =>
    sa.toString(),
  );
  const size = width / groups;
  return scope(() => {
    const distance = sum(reshape(square(sub(fa, fb)), [pairs, groups, size]), 2);
    const variance = add(div(1, sa), div(1, sb));
    return affine(sum(add(div(distance, variance), affine(log(variance), size)), 1), -0.5);
  });
}

/** All pairs i < j of equal labels: the i and the j. */
export function genuinePairs(labels: ArrayLike<number>): { first: Int32Array; second: Int32Array } {
  const [first, second]: [number[], number[]] = [[], []];
  for (let i = 0; i < labels.length; i++)
    for (let j = i + 1; j < labels.length; j++)
      if (labels[i] === labels[j]) {
        first.push(i);
        second.push(j);
      }
  return { first: Int32Array.from(first), second: Int32Array.from(second) };
}

/**
 * The mean −score over the genuine pairs of a batch: f [B, D], every group of length 1; s [B, K]. One element.
 * @throws UserError when no identity has two images in the batch
 */
export function uncertaintyLoss(f: Tensor, s: Tensor, labels: ArrayLike<number>): Tensor {
  const { first, second } = genuinePairs(labels);
  if (first.length === 0)
    throw new UserError(
      'uncertainty: expected two images of an identity in each batch, found none: set data.sampling',
    );
  const { device } = f;
  return scope(() => {
    const a = tensor(first, [first.length], { device, label: 'pairs' });
    const b = tensor(second, [second.length], { device, label: 'pairs' });
    const scores = mutualLikelihood(gatherRows(f, a), gatherRows(f, b), gatherRows(s, a), gatherRows(s, b));
    return neg(mean(scores));
  });
}
