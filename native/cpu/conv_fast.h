// The convolutions of the CPU behind conv2d.
#pragma once
#include "convolution.h"

namespace turl {

void gemm_conv_forward(Context& context, float* y, const float* x, const float* weight, const Convolution& s);
void gemm_conv_backward_data(Context& context, float* dx, const float* dy, const float* weight, const Convolution& s);
void gemm_conv_backward_weight(Context& context, float* dweight, const float* dy, const float* x, const Convolution& s);
// Whether the three by Winograd's transforms are possible and faster than those by the implicit GEMM.
bool winograd_suits(const Convolution& s);
void winograd_conv_forward(Context& context, float* y, const float* x, const float* weight, const Convolution& s);
void winograd_conv_backward_data(Context& context, float* dx, const float* dy, const float* weight, const Convolution& s);
void winograd_conv_backward_weight(Context& context, float* dweight, const float* dy, const float* x, const Convolution& s);
// Whether those in bfloat16 without widening are possible and faster: products are summed over `depth` channels of a group; the
// weight's gradient sums over pixels instead (2).
bool pairs_suit(const Convolution& s, int64_t depth);
void pairs_conv_forward(Context& context, bfloat16* y, const bfloat16* x, const bfloat16* weight, const Convolution& s);
void pairs_conv_backward_data(Context& context, bfloat16* dx, const bfloat16* dy, const bfloat16* weight, const Convolution& s);
void pairs_conv_backward_weight(Context& context, float* dweight, const bfloat16* dy, const bfloat16* x, const Convolution& s);
void depthwise_forward(Context& context, float* y, const float* x, const float* weight, const Convolution& s);
void depthwise_backward_data(Context& context, float* dx, const float* dy, const float* weight, const Convolution& s);
void depthwise_backward_weight(Context& context, float* dweight, const float* dy, const float* x, const Convolution& s);
// Whether the window slides along the rows; only then are there the same for bfloat16, with the filter in float32.
bool depthwise_slides(const Convolution& s);
void depthwise_forward(Context& context, bfloat16* y, const bfloat16* x, const float* weight, const Convolution& s);
void depthwise_backward_data(Context& context, bfloat16* dx, const bfloat16* dy, const float* weight, const Convolution& s);
void depthwise_backward_weight(Context& context, float* dweight, const bfloat16* dy, const bfloat16* x, const Convolution& s);

}  // namespace turl
