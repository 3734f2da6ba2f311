// Depthwise convolution: weight [C, kh, kw, 1], one filter for each channel. Neighbouring threads take neighbouring channels, so
// every access but the weight's is contiguous; the products are few for each byte, and memory sets the pace.
#pragma once
#include "convolution.h"
#include "cuda/device.h"

namespace turl {

// One thread, one element of y.
template <class T> __global__ void depthwise_forward_kernel(T* y, const T* x, const T* weight, Convolution s) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, ho = s.out_height(), wo = s.out_width();
  if (i >= s.y_size()) return;
  const int64_t c = i % s.channels, pixel = i / s.channels;
  float sum = 0;
  for (int64_t u = 0; u < s.kernel_h; u++)
    for (int64_t v = 0; v < s.kernel_w; v++) {
      const int64_t iy = pixel / wo % ho * s.stride + u - s.padding, ix = pixel % wo * s.stride + v - s.padding;
      if (iy < 0 || iy >= s.height || ix < 0 || ix >= s.width) continue;
      sum += float(x[((pixel / wo / ho * s.height + iy) * s.width + ix) * s.channels + c]) *
             float(weight[(c * s.kernel_h + u) * s.kernel_w + v]);
    }
  y[i] = T(sum);
}

// One thread, one element of dx.
template <class T> __global__ void depthwise_backward_data_kernel(T* dx, const T* dy, const T* weight, Convolution s) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, ho = s.out_height(), wo = s.out_width();
  if (i >= s.x_size()) return;
  const int64_t c = i % s.channels, pixel = i / s.channels;
  float sum = 0;
  for (int64_t u = 0; u < s.kernel_h; u++)
    for (int64_t v = 0; v < s.kernel_w; v++) {
      const int64_t ty = pixel / s.width % s.height + s.padding - u, tx = pixel % s.width + s.padding - v;
      if (ty < 0 || tx < 0 || ty % s.stride || tx % s.stride || ty / s.stride >= ho || tx / s.stride >= wo) continue;
      sum += float(dy[((pixel / s.width / s.height * ho + ty / s.stride) * wo + tx / s.stride) * s.channels + c]) *
             float(weight[(c * s.kernel_h + u) * s.kernel_w + v]);
    }
  dx[i] = T(sum);
}

// One thread, one tap and channel over one part of the pixels: partial[part][C][taps]. blockIdx.y is the tap, z the part.
template <class T>
__global__ void depthwise_backward_weight_kernel(float* partial, const T* dy, const T* x, Convolution s, int64_t part_pixels) {
  const int64_t c = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, tap = blockIdx.y, ho = s.out_height(), wo = s.out_width();
  if (c >= s.channels) return;
  const int64_t begin = blockIdx.z * part_pixels, end = min(s.batch * ho * wo, begin + part_pixels);
  float sum = 0;
  for (int64_t p = begin; p < end; p++) {
    const int64_t iy = p / wo % ho * s.stride + tap / s.kernel_w - s.padding, ix = p % wo * s.stride + tap % s.kernel_w - s.padding;
    if (iy < 0 || iy >= s.height || ix < 0 || ix >= s.width) continue;
    sum += float(dy[p * s.channels + c]) * float(x[((p / wo / ho * s.height + iy) * s.width + ix) * s.channels + c]);
  }
  partial[blockIdx.z * s.weight_size() + c * s.taps() + tap] = sum;
}

}  // namespace turl
