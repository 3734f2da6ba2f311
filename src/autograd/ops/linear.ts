import { check } from '../../tensor/errors.js';
import { accumulator, isFloat } from '../../tensor/dtype.js';
import { scope } from '../../tensor/scope.js';
import { sizeOf } from '../../tensor/shape.js';
import { empty, type Tensor } from '../../tensor/tensor.js';
import { record } from '../tape.js';
import { matmulValue } from './matmul.js';

/**
 * Fully connected layer: y = x weightᵀ + bias. For bfloat16 x the weight, the bias and their gradients are float32.
 * @param x floating [..., in]
 * @param weight [out, in]
 * @param bias [out]; none when left out
 * @returns y [..., out], of the type of weight and bias
 * @throws ShapeError for other shapes and types
 */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  check(isFloat(x.dtype) && x.rank >= 1, 'linear', 'x as floating [..., in]', () => x.toString());
  const features = x.dim(-1);
  const dtype = accumulator(x.dtype);
  check(
    weight.rank === 2 && weight.dim(1) === features && weight.dtype === dtype,
    'linear',
    `a weight of ${dtype} [out, ${features}]`,
    () => weight.toString(),
  );
  const out = weight.dim(0);
  check(
    bias === undefined || (bias.rank === 1 && bias.dim(0) === out && bias.dtype === dtype),
    'linear',
    `a bias of ${dtype} [${out}]`,
    () => String(bias),
  );
  const leading = x.shape.slice(0, -1);
  const rows = sizeOf(leading);
  return scope(() => {
    const product = matmulValue(x.view([rows, features]), weight, { transposeB: true }, dtype);
    const y = record('linear', product.view([...leading, out]), [x, weight], [x, weight], (dy, needs) => {
      const dy2 = dy.view([rows, out]);
      return [
        needs[0] ? matmulValue(dy2, weight, {}, x.dtype).view(x.shape) : undefined,
        needs[1] ? matmulValue(dy2, x.view([rows, features]), { transposeA: true }, dtype) : undefined,
      ];
    });
    return bias ? addBias(y, bias) : y;
  });
}

/** x [..., C] plus bias [C]. */
function addBias(x: Tensor, bias: Tensor): Tensor {
  const channels = bias.size;
  const rows = channels === 0 ? 0 : x.size / channels;
  const { device } = x;
  const y = x.like('linear bias');
  device.kernels.bias_forward(y, x, bias, rows, channels);
  return record('linear bias', y, [x, bias], [], (dy, needs) => {
    const dbias = needs[1]
      ? empty(bias.shape, { dtype: bias.dtype, device, label: 'linear dbias' })
      : undefined;
    if (dbias) device.kernels.bias_backward(dbias, dy, rows, channels);
    return [dy, dbias];
  });
}
