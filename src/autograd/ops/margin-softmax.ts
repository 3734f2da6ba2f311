import { check } from '../../tensor/errors.js';
import { accumulator, isFloat } from '../../tensor/dtype.js';
import type { HostNumber } from '../../tensor/recording.js';
import { empty, type Tensor } from '../../tensor/tensor.js';
import { record } from '../tape.js';
import { defaultEpsilon } from './group-normalize.js';

/** The numbers of a margin softmax. */
export interface MarginSoftmaxOptions {
  /** K, the number of groups that a prototype is normalised in; 1 when left out. */
  groups?: number;
  /** m, in units of the logits: 30 for Eq. 6 and 8, scale × cosine margin for CosFace, 0 (when left out) for plain softmax. */
  margin?: number | HostNumber;
  /** The least norm by which a group of a prototype is divided. */
  epsilon?: number;
}

/** What `marginSoftmax` gives, in the type of the prototypes. */
export interface MarginSoftmax {
  /** One loss for each sample [B]. */
  loss: Tensor;
  /** 1 where the label's logit, without margin, is above all others, else 0 [B]; without gradient. */
  hit: Tensor;
}

/**
 * Softmax cross-entropy with a margin over any number of classes, logits never stored (§3.2, Eq. 6, 8, 9).
 *
 *     a_ij = g_i · v_j,   v_j = w_j normalised in K groups
 *     loss_i = −log(e^(a_iy − m) / (e^(a_iy − m) + Σ_{j≠y} e^a_ij))
 *
 * @param g floating [B, D]: the embedding times its confidence, g_i^(k) = s_i^(k)/K f_i^(k)
 * @param prototypes w [N, D], the raw parameters; float32 for bfloat16 g, else of g's type
 * @param labels int32 [B]; one outside [0, N) gives a NaN loss and NaN gradients, on every device: whoever makes the labels checks them
 * @throws ShapeError for other shapes and types, N = 0, or a D that does not fall into K equal groups
 */
export function marginSoftmax(
  g: Tensor,
  prototypes: Tensor,
  labels: Tensor,
  { groups = 1, margin = 0, epsilon = defaultEpsilon }: MarginSoftmaxOptions = {},
): MarginSoftmax {
  const dtype = accumulator(g.dtype);
  check(isFloat(g.dtype) && g.rank === 2, 'marginSoftmax', 'floating embeddings [B, D]', () => g.toString());
  const [samples, size] = [g.dim(0), g.dim(1)];
  check(
    prototypes.rank === 2 &&
      prototypes.dim(0) > 0 &&
      prototypes.dim(1) === size &&
      prototypes.dtype === dtype,
    'marginSoftmax',
    `prototypes of ${dtype} [N, ${size}], N 1 or more`,
    () => prototypes.toString(),
  );
  check(
    labels.rank === 1 && labels.dim(0) === samples && labels.dtype === 'int32',
    'marginSoftmax',
    `labels of int32 [${samples}]`,
    () => labels.toString(),
  );
  check(
    Number.isInteger(groups) && groups >= 1 && size > 0 && size % groups === 0,
    'marginSoftmax',
    `${groups} equal groups`,
    () => `D = ${size}`,
  );
  const { device } = g;
  const sizes = [samples, prototypes.dim(0), size, groups] as const;
  const perSample = (label: string) => empty([samples], { dtype, device, label });
  const loss = perSample('margin softmax loss');
  const logsumexp = perSample('margin softmax logsumexp');
  const hit = perSample('margin softmax hit');
  device.kernels.margin_softmax_forward(
    loss,
    logsumexp,
    hit,
    g,
    prototypes,
    labels,
    ...sizes,
    margin,
    epsilon,
  );
  record('marginSoftmax', loss, [g, prototypes], [g, prototypes, labels, loss, logsumexp], (dloss) => {
    const dg = g.like('margin softmax dg');
    const dw = prototypes.like('prototypes gradient');
    device.kernels.margin_softmax_backward(
      dg,
      dw,
      dloss,
      loss,
      logsumexp,
      g,
      prototypes,
      labels,
      ...sizes,
      epsilon,
    );
    return [dg, dw];
  });
  logsumexp.dispose();
  return { loss, hit };
}
