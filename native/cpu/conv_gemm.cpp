#include "cpu/conv_fast.h"
#include "cpu/conv_plain.h"

namespace turl {

void gemm_conv_forward(Context& context, float* y, const float* x, const float* weight, const Convolution& s) {
  plain_conv_forward(context, y, x, weight, s);
}
void gemm_conv_backward_data(Context& context, float* dx, const float* dy, const float* weight, const Convolution& s) {
  plain_conv_backward_data(context, dx, dy, weight, s);
}
void gemm_conv_backward_weight(Context& context, float* dweight, const float* dy, const float* x, const Convolution& s) {
  plain_conv_backward_weight(context, dweight, dy, x, s);
}
void depthwise_forward(Context& context, float* y, const float* x, const float* weight, const Convolution& s) {
  plain_conv_forward(context, y, x, weight, s);
}
void depthwise_backward_data(Context& context, float* dx, const float* dy, const float* weight, const Convolution& s) {
  plain_conv_backward_data(context, dx, dy, weight, s);
}
void depthwise_backward_weight(Context& context, float* dweight, const float* dy, const float* x, const Convolution& s) {
  plain_conv_backward_weight(context, dweight, dy, x, s);
}

}  // namespace turl
