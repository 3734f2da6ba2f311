// The float32 convolutions of the CPU.
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
void depthwise_forward(Context& context, float* y, const float* x, const float* weight, const Convolution& s);
void depthwise_backward_data(Context& context, float* dx, const float* dy, const float* weight, const Convolution& s);
void depthwise_backward_weight(Context& context, float* dweight, const float* dy, const float* x, const Convolution& s);

}  // namespace turl
