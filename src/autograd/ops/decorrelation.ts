import { check } from '../../tensor/errors.js';
import { accumulator, isFloat } from '../../tensor/dtype.js';
import { sameShape } from '../../tensor/shape.js';
import { empty, type Tensor } from '../../tensor/tensor.js';
import { record } from '../tape.js';

/**
 * The discriminator and the two losses it gives the embedding, fused (§3.3, Eq. 11–13).
 *
 *     logit[i, t, s] = Σ_k masks[t, k] f_i^(k)·weight_s^(k) + bias[s]
 *     L_C[i]   = −Σ_t Σ_s log p(u_s = û_is)          its gradient goes to weight and bias only            (11)
 *     L_cls[i] = −Σ_t log p(u_t = û_it)              to f only                                            (12)
 *     L_adv[i] = −Σ_t Σ_{s≠t} ½ log p(0) + ½ log p(1)  to f only                                          (13)
 *
 * @param f floating [B, D]
 * @param weight [V, D]; bias, targets and it are float32 for bfloat16 f, else of f's type
 * @param bias [V]
 * @param masks uint8 [V, K], K a divisor of D
 * @param targets [B, V] in [0, 1], which may be soft; NaN or a negative one is unknown and leaves Eq. 11 and 12, while Eq. 13 needs none
 * @returns [B, 3]: (L_C, L_cls, L_adv)
 * @throws ShapeError for other shapes and types
 */
export function decorrelation(
  f: Tensor,
  weight: Tensor,
  bias: Tensor,
  masks: Tensor,
  targets: Tensor,
): Tensor {
  const dtype = accumulator(f.dtype);
  check(isFloat(f.dtype) && f.rank === 2, 'decorrelation', 'floating embeddings [B, D]', () => f.toString());
  check(masks.rank === 2 && masks.dtype === 'uint8', 'decorrelation', 'masks of uint8 [V, K]', () =>
    masks.toString(),
  );
  const [samples, size] = [f.dim(0), f.dim(1)];
  const [variations, groups] = [masks.dim(0), masks.dim(1)];
  const expect = (name: string, t: Tensor, shape: readonly number[]) => {
    check(
      sameShape(t.shape, shape) && t.dtype === dtype,
      'decorrelation',
      `${name} of ${dtype} [${shape.join(', ')}]`,
      () => t.toString(),
    );
  };
  expect('weight', weight, [variations, size]);
  expect('bias', bias, [variations]);
  expect('targets', targets, [samples, variations]);
  check(groups > 0 && size % groups === 0, 'decorrelation', `${groups} equal groups`, () => `D = ${size}`);
  const { device } = f;
  const sizes = [samples, size, groups, variations] as const;
  const losses = empty([samples, 3], { dtype, device, label: 'decorrelation losses' });
  const logits = empty([samples, variations, variations], { dtype, device, label: 'decorrelation logits' });
  device.kernels.decorrelation_forward(losses, logits, f, weight, bias, masks, targets, ...sizes);
  const result = record(
    'decorrelation',
    losses,
    [f, weight, bias],
    [logits, f, weight, masks, targets],
    (dlosses) => {
      const df = f.like('decorrelation df');
      const dweight = weight.like('decorrelation dweight');
      const dbias = bias.like('decorrelation dbias');
      device.kernels.decorrelation_backward(
        df,
        dweight,
        dbias,
        dlosses,
        logits,
        f,
        weight,
        masks,
        targets,
        ...sizes,
      );
      return [df, dweight, dbias];
    },
  );
  logits.dispose();
  return result;
}
