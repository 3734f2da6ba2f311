/**
 * The kernel table's twin of native/kernels.h: each kernel's name and its arguments, in the same words. The types of the
 * functions are derived from the text, and the text is compared with the addon's when it is opened.
 */
import type { HostNumber } from './recording.js';
import type { Tensor } from './tensor.js';

export const kernelSignatures = {
  fill: '(Out y, double value)',
  copy: '(Out y, In x)',
  cast: '(Out y, In x)',
  add: '(Out y, In a, In b)',
  prelu_forward: '(Out y, In x, In slope, int64_t rows, int64_t channels)',
  prelu_backward: '(Out dx, Out dslope, In dy, In x, In slope, int64_t rows, int64_t channels)',
  binary_forward: '(Out y, In a, In b, Ints shape, Ints a_strides, Ints b_strides, int64_t op)',
  unary_forward: '(Out y, In x, int64_t op)',
  unary_backward: '(Out dx, In dy, In saved, int64_t op)',
  affine: '(Out y, In x, double scale, double shift)',
  sum: '(Out y, In x, int64_t outer, int64_t n, int64_t inner, double scale)',
  max_forward: '(Out y, Out index, In x, int64_t outer, int64_t n, int64_t inner)',
  max_backward: '(Out dx, In dy, In index, int64_t outer, int64_t n, int64_t inner)',
  strided_copy:
    '(Out y, In x, Ints shape, Ints y_strides, Ints x_strides, int64_t y_offset, int64_t x_offset)',
  gather_rows: '(Out y, In x, In index, int64_t rows, int64_t columns)',
  gather_rows_backward: '(Out dx, In dy, In index, int64_t rows, int64_t columns)',
  batch_norm_moments: '(Out moments, In mean, In variance, double epsilon)',
  batch_norm_training:
    '(Out y, MaybeOut y_statistics, Out moments, Out running_mean, Out running_variance, In x, MaybeIn x_statistics, In running_mean0, In running_variance0, MaybeIn gamma, MaybeIn beta, MaybeIn slope, MaybeIn residual, int64_t rows, int64_t channels, double momentum, double epsilon)',
  batch_norm_forward:
    '(Out y, In x, In moments, MaybeIn gamma, MaybeIn beta, MaybeIn slope, MaybeIn residual, int64_t rows, int64_t channels)',
  batch_norm_backward:
    '(MaybeOut dx, Out dgamma, Out dbeta, MaybeOut dslope, In dy, In x, In moments, MaybeIn gamma, MaybeIn beta, MaybeIn slope, MaybeIn more, int64_t rows, int64_t channels, int64_t training)',
  max_pool_forward:
    '(Out y, Out index, In x, int64_t batch, int64_t height, int64_t width, int64_t channels, int64_t out_height, int64_t out_width, int64_t window, int64_t stride, int64_t padding)',
  max_pool_backward:
    '(Out dx, In dy, In index, int64_t batch, int64_t height, int64_t width, int64_t channels, int64_t out_height, int64_t out_width, int64_t window, int64_t stride, int64_t padding)',
  average_pool_forward:
    '(Out y, In x, int64_t batch, int64_t height, int64_t width, int64_t channels, int64_t out_height, int64_t out_width, int64_t window, int64_t stride, int64_t padding)',
  average_pool_backward:
    '(Out dx, In dy, int64_t batch, int64_t height, int64_t width, int64_t channels, int64_t out_height, int64_t out_width, int64_t window, int64_t stride, int64_t padding)',
  dropout: '(Out y, In x, double probability, int64_t seed, int64_t step, int64_t layer)',
  square_sums: '(Out y, InList x)',
  clip_scale: '(Out scale, In squares, double max_norm)',
  sgd_step:
    '(OutList p, OutList v, InList p0, InList v0, InList g, In scale, double lr, double momentum, double weight_decay)',
  adamw_step:
    '(OutList p, OutList m, OutList v, InList p0, InList m0, InList v0, InList g, In scale, double lr, double beta1, double beta2, double epsilon, double weight_decay, int64_t step)',
  group_normalize_forward: '(Out y, In x, int64_t rows, int64_t groups, int64_t size, double epsilon)',
  group_normalize_backward:
    '(Out dx, In dy, In x, int64_t rows, int64_t groups, int64_t size, double epsilon)',
  margin_softmax_forward:
    '(Out loss, Out logsumexp, Out hit, In g, In w, In labels, int64_t samples, int64_t classes, int64_t size, int64_t groups, double margin, double epsilon)',
  margin_softmax_backward:
    '(Out dg, Out dw, In dloss, In loss, In logsumexp, In g, In w, In labels, int64_t samples, int64_t classes, int64_t size, int64_t groups, double epsilon)',
  decorrelation_forward:
    '(Out losses, Out logits, In f, In weight, In bias, In masks, In targets, int64_t samples, int64_t size, int64_t groups, int64_t variations)',
  decorrelation_backward:
    '(Out df, Out dweight, Out dbias, In dlosses, In logits, In f, In weight, In masks, In targets, int64_t samples, int64_t size, int64_t groups, int64_t variations)',
  augment: '(Out y, In images, In parameters, Ints sizes, double mean, double scale)',
  pair_scores:
    '(Out y, In a, In b, In variance_a, In variance_b, int64_t rows, int64_t columns, int64_t groups, int64_t size)',
  matmul:
    '(Out y, In a, In b, int64_t batch, int64_t m, int64_t n, int64_t k, int64_t transpose_a, int64_t transpose_b)',
  multiply_add_rate: '(Out y, In x, int64_t steps)',
  matrix_rate: '(Out y, In a, In b, int64_t steps)',
  bias_forward: '(Out y, In x, In bias, int64_t rows, int64_t channels)',
  bias_backward: '(Out dbias, In dy, int64_t rows, int64_t channels)',
  conv2d_forward:
    '(Out y, MaybeOut statistics, In x, In weight, int64_t batch, int64_t height, int64_t width, int64_t channels, int64_t out_channels, int64_t kernel_h, int64_t kernel_w, int64_t stride, int64_t padding, int64_t groups)',
  conv2d_backward_data:
    '(Out dx, In dy, In weight, int64_t batch, int64_t height, int64_t width, int64_t channels, int64_t out_channels, int64_t kernel_h, int64_t kernel_w, int64_t stride, int64_t padding, int64_t groups)',
  conv2d_backward_weight:
    '(Out dweight, In dy, In x, int64_t batch, int64_t height, int64_t width, int64_t channels, int64_t out_channels, int64_t kernel_h, int64_t kernel_w, int64_t stride, int64_t padding, int64_t groups)',
} as const;

type Argument<Text extends string> = Text extends `${'In' | 'Out'} ${string}`
  ? Tensor
  : Text extends `${'MaybeIn' | 'MaybeOut'} ${string}`
    ? Tensor | undefined
    : Text extends `${'InList' | 'OutList'} ${string}`
      ? readonly Tensor[]
      : Text extends `Ints ${string}`
        ? Int32Array
        : Text extends `${'int64_t' | 'float' | 'double'} ${string}`
          ? number | HostNumber
          : never;

type Arguments<Text extends string> = Text extends `${infer First}, ${infer Rest}`
  ? [Argument<First>, ...Arguments<Rest>]
  : [Argument<Text>];

export type KernelName = keyof typeof kernelSignatures;

/** The whole numbers among the arguments of a native call, by name: the sizes of a kernel; nothing for other calls. */
export function sizesOf(name: string, args: readonly unknown[]): Record<string, number> {
  const signature = Object.hasOwn(kernelSignatures, name) ? kernelSignatures[name as KernelName] : '()';
  const parameters = signature.slice(1, -1).split(', ');
  const sizes: Record<string, number> = {};
  for (const [i, parameter] of parameters.entries()) {
    const [type, parameterName = ''] = parameter.split(' ');
    if (type === 'int64_t') sizes[parameterName] = Number(args[i]);
  }
  return sizes;
}

/** Every kernel as a function of tensors and numbers, launched on the device whose table this is. */
export type Kernels = {
  readonly [Name in KernelName]: (typeof kernelSignatures)[Name] extends `(${infer Text})`
    ? (...args: Arguments<Text>) => void
    : never;
};
