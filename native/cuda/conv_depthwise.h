// Depthwise convolution: weight [C, kh, kw, 1], one filter for each channel. Neighbouring threads take neighbouring channels, so
// every access but the weight's is contiguous; the products are few for each byte, and memory sets the pace. Windows of 3 x 3 whose
// channels come in packs have kernels of their own, in which a thread takes a group of channels of four neighbouring pixels at once.
#pragma once
#include "convolution.h"
#include "cuda/rows.h"
#include "divisor.h"

namespace turl {

// The sizes of a 3 x 3 convolution, for the kernels whose threads take segments of `span` pixels of a row of the result.
constexpr int span = 4;
struct Depthwise {
  int height, width, channels, out_height, out_width, padding, segments;
  Divisor by_segments, by_out_height;
  Depthwise(int64_t height, int64_t width, int64_t channels, int64_t out_height, int64_t out_width, int64_t padding)
      : height(int(height)), width(int(width)), channels(int(channels)), out_height(int(out_height)), out_width(int(out_width)),
        padding(int(padding)), segments(int(ceil_div<int64_t>(out_width, span))), by_segments(std::max(segments, 1)),
        by_out_height(std::max(int(out_height), 1)) {}

  // Where segment number `item` begins: image, row and column of the result.
  __device__ void find(int item, int& image, int& i, int& j) const {
    const int row = by_segments.quotient(item);
    image = by_out_height.quotient(row), i = by_out_height.remainder(row, image), j = by_segments.remainder(item, row) * span;
  }
};

// `count` neighbouring pixels of one row of an image, from column `first` on; zeros beyond its edges.
template <int count, class T, int width>
__device__ inline void take_pixels(Group<T, width> (&to)[count], const T* row, int first, int columns, int channels) {
#pragma unroll
  for (int n = 0; n < count; n++)
    if (within(first + n, columns)) to[n] = *reinterpret_cast<const Group<T, width>*>(row + int64_t(first + n) * channels);
    else
#pragma unroll
      for (int j = 0; j < width; j++) to[n].v[j] = T(0.0f);
}

// Reads the taps of the block's channels as floats, if `rotated` with the window rotated by 180 degrees. All threads may read them afterwards.
template <bool rotated, class T, int columns_at_most>
__device__ inline void take_taps(float (&taps)[9][columns_at_most], const T* weight, int columns, int channels) {
  for (int i = int(threadIdx.y * blockDim.x + threadIdx.x); i < 9 * columns; i += row_threads) {
    const int tap = i / columns, channel = int(blockIdx.x) * columns + i % columns;
    taps[tap][i % columns] = channel < channels ? float(weight[channel * 9 + (rotated ? 8 - tap : tap)]) : 0.0f;
  }
  __syncthreads();
}

// Writes neighbouring pixels of a row of `columns` pixels, from column `first` on, or as many as are inside.
template <int count, class T, int width>
__device__ inline void put_pixels(T* to, const float (&sums)[count][width], int first, int columns, int channels) {
#pragma unroll
  for (int n = 0; n < count; n++) {
    if (first + n >= columns) continue;
    Group<T, width> out;
#pragma unroll
    for (int k = 0; k < width; k++) out.v[k] = T(sums[n][k]);
    *reinterpret_cast<Group<T, width>*>(to + int64_t(n) * channels) = out;
  }
}

// y from x; or, for stride 1, with the window rotated by 180 degrees (`rotated`) and dy in place of x, the image's gradient. If `summed`, also
// leaves the sums of a chunk (channel_sums.h).
template <class T, int width, int stride, bool rotated, bool summed>
__global__ void __launch_bounds__(row_threads, 2)
    depthwise_3x3_kernel(T* y, float* chunk_sums, const T* x, const T* weight, Depthwise s, Rows<width> segments) {
  begin_kernel();
  constexpr int window = (span - 1) * stride + 3;
  TURL_SHARED(float, taps, [9][32 * width]);
  const int columns = int(blockDim.x) * width, c = segments.channel(), own = int(threadIdx.x) * width;
  take_taps<rotated>(taps, weight, columns, s.channels);
  float total[2][width] = {};
  segments.each_place([&](int64_t item) {
    int image, i, j;
    s.find(int(item), image, i, j);
    float sums[span][width] = {};
#pragma unroll
    for (int u = 0; u < 3; u++) {
      const int iy = i * stride + u - s.padding;
      if (!within(iy, s.height)) continue;
      Group<T, width> in[window];
      take_pixels(in, x + (int64_t(image) * s.height + iy) * s.width * s.channels + c, j * stride - s.padding, s.width, s.channels);
#pragma unroll
      for (int v = 0; v < 3; v++)
#pragma unroll
        for (int n = 0; n < span; n++)
#pragma unroll
          for (int k = 0; k < width; k++) sums[n][k] += float(in[n * stride + v].v[k]) * taps[u * 3 + v][own + k];
    }
    put_pixels(y + ((int64_t(image) * s.out_height + i) * s.out_width + j) * s.channels + c, sums, j, s.out_width, s.channels);
    if constexpr (summed) {
#pragma unroll
      for (int n = 0; n < span; n++)
        if (j + n < s.out_width)
#pragma unroll
          for (int k = 0; k < width; k++) {
            const float value = float(T(sums[n][k]));
            total[0][k] += value, total[1][k] += value * value;
          }
    }
  });
  if constexpr (summed) leave_sums(chunk_sums, total, s.channels);
}

// dx for stride 2. Here out_height and out_width of s are those of dx, height and width those of dy. Every other tap of a row or column meets a
// pixel of dy.
template <class T, int width>
__global__ void __launch_bounds__(row_threads, 2)
    depthwise_3x3_backward_data_kernel(T* dx, const T* dy, const T* weight, Depthwise s, Rows<width> segments) {
  begin_kernel();
  TURL_SHARED(float, taps, [9][32 * width]);
  const int columns = int(blockDim.x) * width, c = segments.channel(), own = int(threadIdx.x) * width;
  take_taps<false>(taps, weight, columns, s.channels);
  segments.each_place([&](int64_t item) {
    int image, i, j;
    s.find(int(item), image, i, j);
    float sums[span][width] = {};
#pragma unroll
    for (int u = 0; u < 3; u++) {
      const int ty = i + s.padding - u;
      if (ty % 2 != 0 || !within(ty / 2, s.height)) continue;
      const T* const row = dy + (int64_t(image) * s.height + ty / 2) * s.width * s.channels + c;
#pragma unroll
      for (int v = 0; v < 3; v++)
#pragma unroll
        for (int n = 0; n < span; n++) {
          const int tx = j + n + s.padding - v;
          if (tx % 2 != 0 || !within(tx / 2, s.width)) continue;
          const auto in = *reinterpret_cast<const Group<T, width>*>(row + int64_t(tx / 2) * s.channels);
#pragma unroll
          for (int k = 0; k < width; k++) sums[n][k] += float(in.v[k]) * taps[u * 3 + v][own + k];
        }
    }
    put_pixels(dx + ((int64_t(image) * s.out_height + i) * s.out_width + j) * s.channels + c, sums, j, s.out_width, s.channels);
  });
}

// The weight's gradient over one chunk of the segments: partial[chunk][C][taps].
template <class T, int stride>
__global__ void __launch_bounds__(row_threads, 2)
    depthwise_3x3_backward_weight_kernel(float* partial, const T* dy, const T* x, Depthwise s, Rows<4> segments) {
  begin_kernel();
  constexpr int window = (span - 1) * stride + 3;
  const int c = segments.channel();
  float sums[9][4] = {};
  segments.each_place([&](int64_t item) {
    int image, i, j;
    s.find(int(item), image, i, j);
    Group<T, 4> up[span];
    take_pixels(up, dy + (int64_t(image) * s.out_height + i) * s.out_width * s.channels + c, j, s.out_width, s.channels);
#pragma unroll
    for (int u = 0; u < 3; u++) {
      const int iy = i * stride + u - s.padding;
      if (!within(iy, s.height)) continue;
      Group<T, 4> in[window];
      take_pixels(in, x + (int64_t(image) * s.height + iy) * s.width * s.channels + c, j * stride - s.padding, s.width, s.channels);
#pragma unroll
      for (int v = 0; v < 3; v++)
#pragma unroll
        for (int n = 0; n < span; n++)
#pragma unroll
          for (int k = 0; k < 4; k++) sums[u * 3 + v][k] += float(in[n * stride + v].v[k]) * float(up[n].v[k]);
    }
  });
  leave_sums<true>(partial, sums, s.channels);
}

// One thread, one element of y.
template <class T> __global__ void depthwise_forward_kernel(T* y, const T* x, const T* weight, Convolution s) {
  begin_kernel();
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
  begin_kernel();
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
  begin_kernel();
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
