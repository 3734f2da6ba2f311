// Convolution as its formula says, for float64 (gradient checks): one sum for each element of the result, in a fixed order.
#pragma once
#include "convolution.h"
#include "cpu/parallel.h"

namespace turl {

template <class T> void plain_conv_forward(Context& context, T* y, const T* x, const T* weight, const Convolution& s) {
  const int64_t ho = s.out_height(), wo = s.out_width(), cg = s.group_channels(), og = s.group_out_channels();
  parallel_for(context, s.batch * ho, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++)
      for (int64_t j = 0; j < wo; j++)
        for (int64_t o = 0; o < s.out_channels; o++) {
          T sum = 0;
          for (int64_t u = 0; u < s.kernel_h; u++)
            for (int64_t v = 0; v < s.kernel_w; v++) {
              const int64_t iy = row % ho * s.stride + u - s.padding, ix = j * s.stride + v - s.padding;
              if (iy < 0 || iy >= s.height || ix < 0 || ix >= s.width) continue;
              const T* xp = x + ((row / ho * s.height + iy) * s.width + ix) * s.channels + o / og * cg;
              const T* wp = weight + ((o * s.kernel_h + u) * s.kernel_w + v) * cg;
              for (int64_t c = 0; c < cg; c++) sum += xp[c] * wp[c];
            }
          y[(row * wo + j) * s.out_channels + o] = sum;
        }
  });
}

template <class T> void plain_conv_backward_data(Context& context, T* dx, const T* dy, const T* weight, const Convolution& s) {
  const int64_t ho = s.out_height(), wo = s.out_width(), cg = s.group_channels(), og = s.group_out_channels();
  parallel_for(context, s.batch * s.height, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++)
      for (int64_t ix = 0; ix < s.width; ix++)
        for (int64_t c = 0; c < s.channels; c++) {
          T sum = 0;
          for (int64_t u = 0; u < s.kernel_h; u++)
            for (int64_t v = 0; v < s.kernel_w; v++) {
              const int64_t ty = row % s.height + s.padding - u, tx = ix + s.padding - v;
              if (ty < 0 || tx < 0 || ty % s.stride || tx % s.stride || ty / s.stride >= ho || tx / s.stride >= wo) continue;
              const int64_t g = c / cg;
              const T* gp = dy + ((row / s.height * ho + ty / s.stride) * wo + tx / s.stride) * s.out_channels + g * og;
              for (int64_t o = 0; o < og; o++)
                sum += gp[o] * weight[(((g * og + o) * s.kernel_h + u) * s.kernel_w + v) * cg + c % cg];
            }
          dx[(row * s.width + ix) * s.channels + c] = sum;
        }
  });
}

template <class T> void plain_conv_backward_weight(Context& context, T* dweight, const T* dy, const T* x, const Convolution& s) {
  const int64_t ho = s.out_height(), wo = s.out_width(), cg = s.group_channels(), og = s.group_out_channels();
  parallel_for(context, s.out_channels * s.taps(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; k++) {
      const int64_t o = k / s.taps(), u = k % s.taps() / s.kernel_w, v = k % s.kernel_w;
      T* out = dweight + k * cg;
      std::fill(out, out + cg, T(0));
      for (int64_t row = 0; row < s.batch * ho; row++)
        for (int64_t j = 0; j < wo; j++) {
          const int64_t iy = row % ho * s.stride + u - s.padding, ix = j * s.stride + v - s.padding;
          if (iy < 0 || iy >= s.height || ix < 0 || ix >= s.width) continue;
          const T* xp = x + ((row / ho * s.height + iy) * s.width + ix) * s.channels + o / og * cg;
          const T g = dy[(row * wo + j) * s.out_channels + o];
          for (int64_t c = 0; c < cg; c++) out[c] += g * xp[c];
        }
    }
  });
}

}  // namespace turl
