// The sizes of a convolution, for every device. x [B, H, W, C] and y [B, Ho, Wo, O] are NHWC, weight [O, kh, kw, C / groups];
//   y[b, i, j, o] = sum over u, v, c of x[b, i stride + u - padding, j stride + v - padding, first(o) + c] weight[o, u, v, c]
// where first(o) is the first channel of o's group and x is zero outside of the image.
#pragma once
#include "types.h"

namespace turl {

struct Convolution {
  int64_t batch, height, width, channels, out_channels, kernel_h, kernel_w, stride, padding, groups;

  TURL_BOTH int64_t out_height() const { return (height + 2 * padding - kernel_h) / stride + 1; }
  TURL_BOTH int64_t out_width() const { return (width + 2 * padding - kernel_w) / stride + 1; }
  TURL_BOTH int64_t taps() const { return kernel_h * kernel_w; }
  // Channels of one group, in and out.
  TURL_BOTH int64_t group_channels() const { return channels / groups; }
  TURL_BOTH int64_t group_out_channels() const { return out_channels / groups; }
  TURL_BOTH bool depthwise() const { return groups == channels && groups == out_channels; }
  TURL_BOTH int64_t x_size() const { return batch * height * width * channels; }
  TURL_BOTH int64_t y_size() const { return batch * out_height() * out_width() * out_channels; }
  TURL_BOTH int64_t weight_size() const { return out_channels * taps() * group_channels(); }
};

// Whether i is one of 0 to size - 1.
TURL_BOTH bool within(int i, int size) { return unsigned(i) < unsigned(size); }

}  // namespace turl
