// The convolutions of the CPU among which conv2d.cpp chooses. A forward convolution leaves in `sums`, unless it is null, what the batch
// normalisation that follows wants (channel_sums.h). If it leaves nothing there, conv2d.cpp reads the result once more.
#pragma once
#include "convolution.h"
#include "cpu/channel_sums.h"

namespace turl {

// Implicit GEMM (conv_gemm.cpp, conv_gemm_weight.cpp).
void gemm_conv_forward(Context& context, float* y, ChannelSums* sums, const float* x, const float* weight, const Convolution& s);
void gemm_conv_backward_data(Context& context, float* dx, const float* dy, const float* weight, const Convolution& s);
void gemm_conv_backward_weight(Context& context, float* dweight, const float* dy, const float* x, const Convolution& s);
// Winograd (conv_winograd.cpp, conv_winograd_weight.cpp); T is float or bfloat16. winograd_suits: whether it is possible, and faster than
// an implicit GEMM that runs at `speed` times the rate of float32.
bool winograd_suits(const Convolution& s, double speed = 1);
template <class T>
void winograd_conv_forward(Context& context, T* y, ChannelSums* sums, const T* x, const float* weight, const Convolution& s);
template <class T>
void winograd_conv_backward_data(Context& context, T* dx, const T* dy, const float* weight, const Convolution& s);
template <class T>
void winograd_conv_backward_weight(Context& context, float* dweight, const T* dy, const T* x, const Convolution& s);
// Pairs of bfloat16 (conv_pairs.cpp). pairs_suit: whether they are possible and faster than widening to float32, for sums over `depth`
// neighbouring values, which must be even. `depth` is the number of channels of a group, but 2 for the weight's gradient, which sums over
// pixels, and for a forward pass over patches: both end with a zero where they are odd.
bool pairs_suit(const Convolution& s, int64_t depth);
// The speed to give to winograd_suits: for both directions of the image, and for the weight's gradient. Fitted to measurements on a Zen 5.
constexpr double pairs_speed = 1.65, pairs_weight_speed = 1.25;
void pairs_conv_forward(Context& context, bfloat16* y, ChannelSums* sums, const bfloat16* x, const bfloat16* weight, const Convolution& s);
void pairs_conv_backward_data(Context& context, bfloat16* dx, const bfloat16* dy, const bfloat16* weight, const Convolution& s);
void pairs_conv_backward_weight(Context& context, float* dweight, const bfloat16* dy, const bfloat16* x, const Convolution& s);
// Matrix units, that is AMX (conv_matrix.cpp, conv_matrix_weight.cpp). matrix_suits: whether there are any, and they can do it.
bool matrix_suits(const Convolution& s);
void matrix_conv_forward(Context& context, bfloat16* y, ChannelSums* sums, const bfloat16* x, const bfloat16* weight, const Convolution& s);
void matrix_conv_backward_data(Context& context, bfloat16* dx, const bfloat16* dy, const bfloat16* weight, const Convolution& s);
void matrix_conv_backward_weight(Context& context, float* dweight, const bfloat16* dy, const bfloat16* x, const Convolution& s);
// One filter for each channel (depthwise.cpp).
void depthwise_forward(Context& context, float* y, ChannelSums* sums, const float* x, const float* weight, const Convolution& s);
void depthwise_backward_data(Context& context, float* dx, const float* dy, const float* weight, const Convolution& s);
void depthwise_backward_weight(Context& context, float* dweight, const float* dy, const float* x, const Convolution& s);
// Whether the window slides along the rows (depthwise_3x3.h). Only then may x, y and their gradients be bfloat16; the filter is float32.
bool depthwise_slides(const Convolution& s);
void depthwise_forward(Context& context, bfloat16* y, ChannelSums* sums, const bfloat16* x, const float* weight, const Convolution& s);
void depthwise_backward_data(Context& context, bfloat16* dx, const bfloat16* dy, const float* weight, const Convolution& s);
void depthwise_backward_weight(Context& context, float* dweight, const bfloat16* dy, const bfloat16* x, const Convolution& s);

}  // namespace turl
