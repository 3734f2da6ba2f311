// The kernel table: every kernel's name and arguments. The text of the arguments is compared with its twin in src/tensor/kernels.ts when
// the addon is opened, so that the two cannot drift apart.
//
// A comment below names the file that has the kernels after it: native/cpu/NAME.cpp and native/cuda/NAME.cu define them as
// turl::KERNEL(Context&, ARGUMENTS), and say what they compute, with formulas and shapes (most fully in cpu/).
//
// Arguments come in the order outputs, inputs, sizes, scalars. Their types (types.h): Out and In are arrays; MaybeOut and MaybeIn are
// arrays that a caller may leave out; OutList and InList are several arrays; Ints is a short list of integers; int64_t, float and double
// are numbers. Names: dx is the gradient of x; p0 is p before an update; strides and offsets count elements; images are
// [batch, height, width, channels]; rows x channels is the same array with everything but the channels in one dimension.
#pragma once
#include "types.h"

#define TURL_KERNELS(kernel)                                                                     \
  /* copy: whole arrays */ \
  kernel(fill, (Out y, double value)) \
  kernel(copy, (Out y, In x)) \
  kernel(cast, (Out y, In x)) \
  /* elementwise: y = a + b */ \
  kernel(add, (Out y, In a, In b)) \
  /* prelu */ \
  kernel(prelu_forward, (Out y, In x, In slope, int64_t rows, int64_t channels)) \
  kernel(prelu_backward, (Out dx, Out dslope, In dy, In x, In slope, int64_t rows, int64_t channels)) \
  /* elementwise: op is a place in the lists of elementwise.h */ \
  kernel(binary_forward, (Out y, In a, In b, Ints shape, Ints a_strides, Ints b_strides, int64_t op)) \
  kernel(unary_forward, (Out y, In x, int64_t op)) \
  kernel(unary_backward, (Out dx, In dy, In saved, int64_t op)) \
  kernel(affine, (Out y, In x, double scale, double shift)) \
  /* reduce: x [outer, n, inner] over n */ \
  kernel(sum, (Out y, In x, int64_t outer, int64_t n, int64_t inner, double scale)) \
  kernel(max_forward, (Out y, Out index, In x, int64_t outer, int64_t n, int64_t inner)) \
  kernel(max_backward, (Out dx, In dy, In index, int64_t outer, int64_t n, int64_t inner)) \
  /* strided_copy: transpose, slice, concatenation, broadcast; rows by index */ \
  kernel(strided_copy, (Out y, In x, Ints shape, Ints y_strides, Ints x_strides, int64_t y_offset, int64_t x_offset)) \
  kernel(gather_rows, (Out y, In x, In index, int64_t rows, int64_t columns)) \
  kernel(gather_rows_backward, (Out dx, In dy, In index, int64_t rows, int64_t columns)) \
  /* batch_norm: moments are mean and 1 / sqrt(variance + epsilon), statistics are mean and variance */ \
  kernel(batch_norm_moments, (Out moments, In mean, In variance, double epsilon)) \
  kernel(batch_norm_training, (Out y, MaybeOut y_statistics, Out moments, Out running_mean, Out running_variance, In x, MaybeIn x_statistics, In running_mean0, In running_variance0, MaybeIn gamma, MaybeIn beta, MaybeIn slope, MaybeIn residual, int64_t rows, int64_t channels, double momentum, double epsilon)) \
  kernel(batch_norm_forward, (Out y, In x, In moments, MaybeIn gamma, MaybeIn beta, MaybeIn slope, MaybeIn residual, int64_t rows, int64_t channels)) \
  kernel(batch_norm_backward, (MaybeOut dx, Out dgamma, Out dbeta, MaybeOut dslope, In dy, In x, In moments, MaybeIn gamma, MaybeIn beta, MaybeIn slope, MaybeIn more, int64_t rows, int64_t channels, int64_t training)) \
  /* pooling */ \
  kernel(max_pool_forward, (Out y, Out index, In x, int64_t batch, int64_t height, int64_t width, int64_t channels, int64_t out_height, int64_t out_width, int64_t window, int64_t stride, int64_t padding)) \
  kernel(max_pool_backward, (Out dx, In dy, In index, int64_t batch, int64_t height, int64_t width, int64_t channels, int64_t out_height, int64_t out_width, int64_t window, int64_t stride, int64_t padding)) \
  kernel(average_pool_forward, (Out y, In x, int64_t batch, int64_t height, int64_t width, int64_t channels, int64_t out_height, int64_t out_width, int64_t window, int64_t stride, int64_t padding)) \
  kernel(average_pool_backward, (Out dx, In dy, int64_t batch, int64_t height, int64_t width, int64_t channels, int64_t out_height, int64_t out_width, int64_t window, int64_t stride, int64_t padding)) \
  /* dropout */ \
  kernel(dropout, (Out y, In x, double probability, int64_t seed, int64_t step, int64_t layer)) \
  /* optimizer: the norm of the gradients, and updates in place */ \
  kernel(square_sums, (Out y, InList x)) \
  kernel(clip_scale, (Out scale, In squares, double max_norm)) \
  kernel(sgd_step, (OutList p, OutList v, InList p0, InList v0, InList g, In scale, double lr, double momentum, double weight_decay)) \
  kernel(adamw_step, (OutList p, OutList m, OutList v, InList p0, InList m0, InList v0, InList g, In scale, double lr, double beta1, double beta2, double epsilon, double weight_decay, int64_t step)) \
  /* group_normalize: each group of `size` elements gets length 1 */ \
  kernel(group_normalize_forward, (Out y, In x, int64_t rows, int64_t groups, int64_t size, double epsilon)) \
  kernel(group_normalize_backward, (Out dx, In dy, In x, int64_t rows, int64_t groups, int64_t size, double epsilon)) \
  /* margin_softmax: Eq. 6, 8 and 9, for any number of classes */ \
  kernel(margin_softmax_forward, (Out loss, Out logsumexp, Out hit, In g, In w, In labels, int64_t samples, int64_t classes, int64_t size, int64_t groups, double margin, double epsilon)) \
  kernel(margin_softmax_backward, (Out dg, Out dw, In dloss, In loss, In logsumexp, In g, In w, In labels, int64_t samples, int64_t classes, int64_t size, int64_t groups, double epsilon)) \
  /* decorrelation: Eq. 11 to 13 */ \
  kernel(decorrelation_forward, (Out losses, Out logits, In f, In weight, In bias, In masks, In targets, int64_t samples, int64_t size, int64_t groups, int64_t variations)) \
  kernel(decorrelation_backward, (Out df, Out dweight, Out dbias, In dlosses, In logits, In f, In weight, In masks, In targets, int64_t samples, int64_t size, int64_t groups, int64_t variations)) \
  /* augment: crop, mirror, low resolution and occlusion of uint8 images */ \
  kernel(augment, (Out y, In images, In parameters, Ints sizes, double mean, double scale)) \
  /* pair_scores: Eq. 16 for all pairs */ \
  kernel(pair_scores, (Out y, In a, In b, In variance_a, In variance_b, int64_t rows, int64_t columns, int64_t groups, int64_t size)) \
  /* matmul */ \
  kernel(matmul, (Out y, In a, In b, int64_t batch, int64_t m, int64_t n, int64_t k, int64_t transpose_a, int64_t transpose_b)) \
  /* arithmetic_rate: measures the device for `turl bench` */ \
  kernel(multiply_add_rate, (Out y, In x, int64_t steps)) \
  kernel(matrix_rate, (Out y, In a, In b, int64_t steps)) \
  /* bias */ \
  kernel(bias_forward, (Out y, In x, In bias, int64_t rows, int64_t channels)) \
  kernel(bias_backward, (Out dbias, In dy, int64_t rows, int64_t channels)) \
  /* conv2d: shapes and formula in convolution.h */ \
  kernel(conv2d_forward, (Out y, MaybeOut statistics, In x, In weight, int64_t batch, int64_t height, int64_t width, int64_t channels, \
         int64_t out_channels, int64_t kernel_h, int64_t kernel_w, int64_t stride, int64_t padding, int64_t groups)) \
  kernel(conv2d_backward_data, (Out dx, In dy, In weight, int64_t batch, int64_t height, int64_t width, int64_t channels, \
         int64_t out_channels, int64_t kernel_h, int64_t kernel_w, int64_t stride, int64_t padding, int64_t groups)) \
  kernel(conv2d_backward_weight, (Out dweight, In dy, In x, int64_t batch, int64_t height, int64_t width, int64_t channels, \
         int64_t out_channels, int64_t kernel_h, int64_t kernel_w, int64_t stride, int64_t padding, int64_t groups))

#define TURL_UNWRAP(...) __VA_ARGS__

namespace turl {

struct KernelTable {
#define TURL_FIELD(name, arguments) void (*name)(Context&, TURL_UNWRAP arguments);
  TURL_KERNELS(TURL_FIELD)
#undef TURL_FIELD
};

}  // namespace turl
