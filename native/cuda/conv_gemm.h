// Convolution as implicit GEMM on 64 x 64 tiles, sums in float32, for everything that has no kernel of its own; shapes and formula in
// convolution.h. Rows of a tile are result pixels, whose positions a block computes once; the inner dimension runs over taps x channels.
#pragma once
#include "convolution.h"
#include "cuda/tile_product.h"

namespace turl {

// The position of each pixel of a tile, in shared memory: image, row, column; image -1 past the end.
struct PixelTable {
  int (*at)[3];
  __device__ void fill(int64_t first, int64_t pixels, int64_t height, int64_t width) {
    for (int i = threadIdx.x; i < tile_side; i += blockDim.x) {
      const int64_t p = first + i;
      at[i][0] = p < pixels ? int(p / width / height) : -1;
      at[i][1] = int(p / width % height);
      at[i][2] = int(p % width);
    }
    __syncthreads();
  }
};

// One block: 64 pixels of y x 64 output channels of one group.
template <class T>
__global__ void __launch_bounds__(tile_threads, 2) conv_forward_kernel(T* y, const T* x, const T* weight, Convolution s) {
  begin_kernel();
  TURL_SHARED(int, positions, [tile_side][3]);
  const int cg = int(s.group_channels()), og = int(s.group_out_channels()), group = int(blockIdx.z), kw = int(s.kernel_w);
  const int64_t pixels = s.batch * s.out_height() * s.out_width(), depth = s.taps() * cg;
  const int64_t first_pixel = int64_t(blockIdx.x) * tile_side;
  const int first_channel = int(blockIdx.y) * tile_side;
  PixelTable{positions}.fill(first_pixel, pixels, s.out_height(), s.out_width());
  float sums[4][4] = {};
  tile_product<Fast::depth, Fast::depth>(
      sums, 0, depth,
      [&](int side, int64_t k) {
        const int tap = int(k) / cg, c = int(k) % cg;
        const int64_t iy = positions[side][1] * s.stride + tap / kw - s.padding;
        const int64_t ix = positions[side][2] * s.stride + tap % kw - s.padding;
        const bool inside = positions[side][0] >= 0 && iy >= 0 && iy < s.height && ix >= 0 && ix < s.width;
        return inside ? float(x[((positions[side][0] * s.height + iy) * s.width + ix) * s.channels + group * cg + c]) : 0.0f;
      },
      [&](int side, int64_t k) {
        const int o = first_channel + side;
        return o < og ? float(weight[(int64_t(group) * og + o) * depth + k]) : 0.0f;
      });
  const int64_t pixel = first_pixel + threadIdx.x / 16 * 4;
  const int channel = first_channel + int(threadIdx.x % 16 * 4);
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 4; j++)
      if (pixel + i < pixels && channel + j < og)
        y[(pixel + i) * s.out_channels + group * og + channel + j] = T(sums[i][j]);
}

// One block: 64 pixels of dx x 64 input channels of one group.
template <class T>
__global__ void __launch_bounds__(tile_threads, 2) conv_backward_data_kernel(T* dx, const T* dy, const T* weight, Convolution s) {
  begin_kernel();
  TURL_SHARED(int, positions, [tile_side][3]);
  const int cg = int(s.group_channels()), og = int(s.group_out_channels()), group = int(blockIdx.z), kw = int(s.kernel_w);
  const int64_t pixels = s.batch * s.height * s.width, ho = s.out_height(), wo = s.out_width();
  const int64_t first_pixel = int64_t(blockIdx.x) * tile_side;
  const int first_channel = int(blockIdx.y) * tile_side;
  PixelTable{positions}.fill(first_pixel, pixels, s.height, s.width);
  float sums[4][4] = {};
  tile_product<Fast::depth, Fast::side>(
      sums, 0, s.taps() * og,
      [&](int side, int64_t k) {
        const int tap = int(k) / og, o = int(k) % og;
        const int64_t ty = positions[side][1] + s.padding - tap / kw, tx = positions[side][2] + s.padding - tap % kw;
        const bool meets = positions[side][0] >= 0 && ty >= 0 && tx >= 0 && ty % s.stride == 0 && tx % s.stride == 0 &&
                           ty / s.stride < ho && tx / s.stride < wo;
        return meets ? float(dy[((positions[side][0] * ho + ty / s.stride) * wo + tx / s.stride) * s.out_channels + group * og + o])
                     : 0.0f;
      },
      [&](int side, int64_t k) {
        const int c = first_channel + side, tap = int(k) / og, o = int(k) % og;
        return c < cg ? float(weight[((int64_t(group) * og + o) * s.taps() + tap) * cg + c]) : 0.0f;
      });
  const int64_t pixel = first_pixel + threadIdx.x / 16 * 4;
  const int channel = first_channel + int(threadIdx.x % 16 * 4);
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 4; j++)
      if (pixel + i < pixels && channel + j < cg) dx[(pixel + i) * s.channels + group * cg + channel + j] = T(sums[i][j]);
}

// One block: 64 output channels x 64 values of taps x channels of one group, over one part of the pixels, into
// partial[part][out_channels][taps][channels of a group]; parts are added in order afterwards.
template <class T>
__global__ void __launch_bounds__(tile_threads, 2)
    conv_backward_weight_kernel(float* partial, const T* dy, const T* x, Convolution s, int64_t part_pixels) {
  begin_kernel();
  const int cg = int(s.group_channels()), og = int(s.group_out_channels()), kw = int(s.kernel_w);
  const int group = int(blockIdx.z % s.groups), part = int(blockIdx.z / s.groups), depth = int(s.taps()) * cg;
  const int ho = int(s.out_height()), wo = int(s.out_width()), height = int(s.height), width = int(s.width);
  const int stride = int(s.stride), padding = int(s.padding);
  const int64_t pixels = s.batch * ho * wo;
  const int first_row = int(blockIdx.x) * tile_side, first_column = int(blockIdx.y) * tile_side;
  float sums[4][4] = {};
  tile_product<Fast::side, Fast::side>(
      sums, part * part_pixels, min(pixels, (part + 1) * part_pixels),
      [&](int side, int64_t p) {
        const int o = first_row + side;
        return o < og ? float(dy[p * s.out_channels + group * og + o]) : 0.0f;
      },
      [&](int side, int64_t p) {
        const int value = first_column + side, tap = value / cg, row = int(p / wo), column = int(p) - row * wo;
        const int iy = row % ho * stride + tap / kw - padding, ix = column * stride + tap % kw - padding;
        const bool inside = value < depth && iy >= 0 && iy < height && ix >= 0 && ix < width;
        return inside ? float(x[(int64_t(row / ho * height + iy) * width + ix) * s.channels + group * cg + value % cg]) : 0.0f;
      });
  const int row = first_row + int(threadIdx.x / 16 * 4), column = first_column + int(threadIdx.x % 16 * 4);
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 4; j++)
      if (row + i < og && column + j < depth)
        partial[part * s.weight_size() + (int64_t(group) * og + row + i) * depth + column + j] = sums[i][j];
}

}  // namespace turl
