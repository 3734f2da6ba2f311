// 2-d convolution, its gradient with respect to the image and to the weight; shapes and formula in convolution.h.
// This file chooses the kernel. float32 goes to the fast kernels (conv_fast.h). So does bfloat16 where they read it; else it is widened for
// them, and the result is rounded once. float64 is computed as the formula says. The weight's gradient is float32 for bfloat16 images.
#include "cpu/conv_fast.h"
#include "cpu/conv_gather.h"
#include "cpu/conv_plain.h"
#include "cpu/widen.h"
#include "kernels.h"

namespace turl {
namespace {

// f.operator()<T>() with the type of the images.
template <class F> void with_images(DType dtype, F&& f) {
  if (dtype == DType::bfloat16) f.template operator()<bfloat16>();
  else f.template operator()<float>();
}

// Whether pairs of bfloat16, which run at `speed` times the rate of float32, are possible and faster than Winograd; `depth` as for pairs_suit.
bool pairs_win(DType dtype, const Convolution& s, int64_t depth, double speed) {
  return dtype == DType::bfloat16 && pairs_suit(s, depth) && !winograd_suits(s, speed);
}

void forward(Context& context, Out y, ChannelSums* sums, In x, In weight, const Convolution& s) {
  if (x.dtype == DType::float64) return plain_conv_forward(context, y.as<double>(), x.as<double>(), weight.as<double>(), s);
  if (x.dtype == DType::bfloat16 && matrix_suits(s))
    return matrix_conv_forward(context, y.as<bfloat16>(), sums, x.as<bfloat16>(), weight.as<bfloat16>(), s);
  if (pairs_win(x.dtype, s, few_channels(s.group_channels(), s.groups) ? 2 : s.group_channels(), pairs_speed))
    return pairs_conv_forward(context, y.as<bfloat16>(), sums, x.as<bfloat16>(), weight.as<bfloat16>(), s);
  const float* wf = widened(context, weight);
  if (winograd_suits(s))
    return with_images(x.dtype, [&]<class T>() { winograd_conv_forward(context, y.as<T>(), sums, x.as<T>(), wf, s); });
  if (x.dtype == DType::bfloat16 && depthwise_slides(s))
    return depthwise_forward(context, y.as<bfloat16>(), sums, x.as<bfloat16>(), wf, s);
  const float* xf = widened(context, x);
  if (y.dtype == DType::bfloat16) sums = nullptr;  // it would sum values before they are rounded
  with_narrowed(context, y, [&](float* yf) {
    if (s.depthwise()) depthwise_forward(context, yf, sums, xf, wf, s);
    else gemm_conv_forward(context, yf, sums, xf, wf, s);
  });
}

}  // namespace

// statistics [2, out_channels]: mean and variance of each channel of y.
void conv2d_forward(Context& context, Out y, MaybeOut statistics, In x, In weight, int64_t batch, int64_t height, int64_t width,
                    int64_t channels, int64_t out_channels, int64_t kernel_h, int64_t kernel_w, int64_t stride, int64_t padding,
                    int64_t groups) {
  const Convolution s{batch, height, width, channels, out_channels, kernel_h, kernel_w, stride, padding, groups};
  if (y.size == 0) return;
  const int64_t pixels = y.size / out_channels;
  ChannelSums sums(context, out_channels);
  forward(context, y, statistics.size > 0 ? &sums : nullptr, x, weight, s);
  if (sums.begun()) sums.finish(statistics.as<float>(), pixels);
  else if (statistics.size > 0) channel_statistics(context, statistics, {y.data, y.size, y.dtype}, pixels, out_channels);
}

void conv2d_backward_data(Context& context, Out dx, In dy, In weight, int64_t batch, int64_t height, int64_t width,
                          int64_t channels, int64_t out_channels, int64_t kernel_h, int64_t kernel_w, int64_t stride,
                          int64_t padding, int64_t groups) {
  const Convolution s{batch, height, width, channels, out_channels, kernel_h, kernel_w, stride, padding, groups};
  if (dx.size == 0) return;
  if (dy.dtype == DType::float64)
    return plain_conv_backward_data(context, dx.as<double>(), dy.as<double>(), weight.as<double>(), s);
  if (dy.dtype == DType::bfloat16 && matrix_suits(s))
    return matrix_conv_backward_data(context, dx.as<bfloat16>(), dy.as<bfloat16>(), weight.as<bfloat16>(), s);
  if (pairs_win(dy.dtype, s, s.group_out_channels(), pairs_speed))
    return pairs_conv_backward_data(context, dx.as<bfloat16>(), dy.as<bfloat16>(), weight.as<bfloat16>(), s);
  const float* wf = widened(context, weight);
  if (winograd_suits(s))
    return with_images(dy.dtype, [&]<class T>() { winograd_conv_backward_data(context, dx.as<T>(), dy.as<T>(), wf, s); });
  if (dy.dtype == DType::bfloat16 && depthwise_slides(s))
    return depthwise_backward_data(context, dx.as<bfloat16>(), dy.as<bfloat16>(), wf, s);
  const float* gf = widened(context, dy);
  with_narrowed(context, dx, [&](float* xf) {
    if (s.depthwise()) depthwise_backward_data(context, xf, gf, wf, s);
    else gemm_conv_backward_data(context, xf, gf, wf, s);
  });
}

void conv2d_backward_weight(Context& context, Out dweight, In dy, In x, int64_t batch, int64_t height, int64_t width,
                            int64_t channels, int64_t out_channels, int64_t kernel_h, int64_t kernel_w, int64_t stride,
                            int64_t padding, int64_t groups) {
  const Convolution s{batch, height, width, channels, out_channels, kernel_h, kernel_w, stride, padding, groups};
  if (dweight.size == 0) return;
  if (x.dtype == DType::float64)
    return plain_conv_backward_weight(context, dweight.as<double>(), dy.as<double>(), x.as<double>(), s);
  float* dw = dweight.as<float>();
  if (x.dtype == DType::bfloat16 && matrix_suits(s))
    return matrix_conv_backward_weight(context, dw, dy.as<bfloat16>(), x.as<bfloat16>(), s);
  if (pairs_win(x.dtype, s, 2, pairs_weight_speed))
    return pairs_conv_backward_weight(context, dw, dy.as<bfloat16>(), x.as<bfloat16>(), s);
  if (winograd_suits(s))
    return with_images(x.dtype, [&]<class T>() { winograd_conv_backward_weight(context, dw, dy.as<T>(), x.as<T>(), s); });
  if (x.dtype == DType::bfloat16 && depthwise_slides(s))
    return depthwise_backward_weight(context, dw, dy.as<bfloat16>(), x.as<bfloat16>(), s);
  const float *gf = widened(context, dy), *xf = widened(context, x);
  if (s.depthwise()) depthwise_backward_weight(context, dw, gf, xf, s);
  else gemm_conv_backward_weight(context, dw, gf, xf, s);
}

}  // namespace turl
