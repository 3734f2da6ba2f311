// The convolutions of the CPU behind conv2d. Forward, `sums` take what the batch normalisation that follows wants, unless it is null;
// what does not take them is read again.
#pragma once
#include "convolution.h"
#include "cpu/channel_sums.h"

namespace turl {

void gemm_conv_forward(Context& context, float* y, ChannelSums* sums, const float* x, const float* weight, const Convolution& s);
void gemm_conv_backward_data(Context& context, float* dx, const float* dy, const float* weight, const Convolution& s);
void gemm_conv_backward_weight(Context& context, float* dweight, const float* dy, const float* x, const Convolution& s);
// Whether the three by Winograd's transforms are possible and faster than an implicit GEMM that runs at `speed` times the rate of
// float32; T is float or bfloat16.
bool winograd_suits(const Convolution& s, double speed = 1);
template <class T>
void winograd_conv_forward(Context& context, T* y, ChannelSums* sums, const T* x, const float* weight, const Convolution& s);
template <class T>
void winograd_conv_backward_data(Context& context, T* dx, const T* dy, const float* weight, const Convolution& s);
template <class T>
void winograd_conv_backward_weight(Context& context, float* dweight, const T* dy, const T* x, const Convolution& s);
// Whether those in bfloat16 without widening are possible and faster: products are summed over `depth` channels of a group; the
// weight's gradient sums over pixels instead, and few channels forward are patches that end with zeros (2).
bool pairs_suit(const Convolution& s, int64_t depth);
// For winograd_suits, fitted to turns on a Zen 5: of both directions of the image, of the weight's gradient.
constexpr double pairs_speed = 1.65, pairs_weight_speed = 1.25;
void pairs_conv_forward(Context& context, bfloat16* y, ChannelSums* sums, const bfloat16* x, const bfloat16* weight, const Convolution& s);
void pairs_conv_backward_data(Context& context, bfloat16* dx, const bfloat16* dy, const bfloat16* weight, const Convolution& s);
void pairs_conv_backward_weight(Context& context, float* dweight, const bfloat16* dy, const bfloat16* x, const Convolution& s);
// Whether there are matrix units that take it.
bool matrix_suits(const Convolution& s);
void matrix_conv_forward(Context& context, bfloat16* y, ChannelSums* sums, const bfloat16* x, const bfloat16* weight, const Convolution& s);
void matrix_conv_backward_data(Context& context, bfloat16* dx, const bfloat16* dy, const bfloat16* weight, const Convolution& s);
void matrix_conv_backward_weight(Context& context, float* dweight, const bfloat16* dy, const bfloat16* x, const Convolution& s);
void depthwise_forward(Context& context, float* y, ChannelSums* sums, const float* x, const float* weight, const Convolution& s);
void depthwise_backward_data(Context& context, float* dx, const float* dy, const float* weight, const Convolution& s);
void depthwise_backward_weight(Context& context, float* dweight, const float* dy, const float* x, const Convolution& s);
// Whether the window slides along the rows; only then are there the same for bfloat16, with the filter in float32.
bool depthwise_slides(const Convolution& s);
void depthwise_forward(Context& context, bfloat16* y, ChannelSums* sums, const bfloat16* x, const float* weight, const Convolution& s);
void depthwise_backward_data(Context& context, bfloat16* dx, const bfloat16* dy, const float* weight, const Convolution& s);
void depthwise_backward_weight(Context& context, float* dweight, const bfloat16* dy, const bfloat16* x, const Convolution& s);

}  // namespace turl
