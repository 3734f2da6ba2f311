// Convolution of bfloat16 as implicit GEMM on matrix units (matrix_product.h), for channels that come in packs of 8; shapes and
// formula in convolution.h. Nothing of the size of an im2col matrix exists: a block works out the positions of the pixels that its
// threads copy, and the inner dimension runs over taps x channels, each pack of 8 channels read from where its tap lies.
#pragma once
#include "convolution.h"
#include "cuda/matrix_product.h"

namespace turl {

// Whether the kernels below can take it: 16-byte packs of channels on both sides, and indices that fit.
inline bool on_matrix_units(const Convolution& s) {
  return s.group_channels() % 8 == 0 && s.group_out_channels() % 8 == 0 && s.x_size() / s.channels < (1 << 30) &&
         s.y_size() / s.out_channels < (1 << 30);
}

// The pixels that a thread copies: first input pixel of its image, and the position that tap (0, 0) meets; row -2^20 past the end.
template <int count> struct Pixels {
  int image[count], y[count], x[count];

  __device__ void set(int i, int64_t pixel, int64_t pixels, int rows, int columns, int step, int shift_y, int shift_x, int image_size) {
    const int p = int(pixel < pixels ? pixel : 0);
    image[i] = p / columns / rows * image_size;
    y[i] = pixel < pixels ? p / columns % rows * step + shift_y : -(1 << 20);
    x[i] = p % columns * step + shift_x;
  }
};

// One block: 128 pixels of y x 64 output channels of one group.
__global__ void __launch_bounds__(matrix_threads, 3)
    conv_forward_matrix_kernel(bfloat16* y, const bfloat16* x, const bfloat16* weight, Convolution s) {
  using Piece = OperandPiece<Fast::depth, matrix_rows>;
  const int cg = int(s.group_channels()), og = int(s.group_out_channels()), group = int(blockIdx.z), kw = int(s.kernel_w);
  const int height = int(s.height), width = int(s.width), depth = int(s.taps()) * cg;
  const int64_t pixels = s.batch * s.out_height() * s.out_width(), first_pixel = int64_t(blockIdx.x) * matrix_rows;
  const int first_channel = int(blockIdx.y) * matrix_columns;
  Pixels<Piece::per_thread> at;
#pragma unroll
  for (int i = 0; i < Piece::per_thread; i++)
    at.set(i, first_pixel + Piece::side(i), pixels, int(s.out_height()), int(s.out_width()), int(s.stride), -int(s.padding),
           -int(s.padding), height * width);
  const MatrixSums sums = matrix_product<Fast::depth, Fast::depth>(
      0, depth,
      [&](int i, int, int64_t k) {
        const int tap = int(k) / cg, iy = at.y[i] + tap / kw, ix = at.x[i] + tap % kw;
        const bool inside = k < depth && iy >= 0 && iy < height && ix >= 0 && ix < width;
        return Source{inside ? x + int64_t(at.image[i] + iy * width + ix) * s.channels + group * cg + int(k) % cg : x, inside};
      },
      [&](int, int side, int64_t k) {
        const int o = first_channel + side;
        const bool inside = o < og && k < depth;
        return Source{inside ? weight + (int64_t(group) * og + o) * depth + k : weight, inside};
      });
  sums.each_pair([&](int row, int column, float first, float second) {
    const int64_t pixel = first_pixel + row;
    const int o = first_channel + column;
    if (pixel < pixels) put_pair(y + pixel * s.out_channels + group * og + o, first, second, og - o);
  });
}

// The image's gradient with stride s falls into s x s phases: the pixels (s i + p, s j + q) meet only the taps u = p + padding
// (mod s), v = q + padding (mod s), so no product with a zero is computed. One block: 128 pixels of a phase x 64 input channels of
// one group; blockIdx.z runs over groups and phases.
__global__ void __launch_bounds__(matrix_threads, 3)
    conv_backward_data_matrix_kernel(bfloat16* dx, const bfloat16* dy, const bfloat16* weight, Convolution s) {
  using Piece = OperandPiece<Fast::depth, matrix_rows>;
  const int cg = int(s.group_channels()), og = int(s.group_out_channels()), stride = int(s.stride), padding = int(s.padding);
  const int group = int(blockIdx.z) % int(s.groups), phase = int(blockIdx.z) / int(s.groups), p = phase / stride, q = phase % stride;
  const int height = int(s.height), width = int(s.width), ho = int(s.out_height()), wo = int(s.out_width());
  const int rows = (height - p + stride - 1) / stride, columns = (width - q + stride - 1) / stride;
  const int64_t pixels = s.batch * rows * columns, first_pixel = int64_t(blockIdx.x) * matrix_rows;
  if (first_pixel >= pixels) return;
  const int first_channel = int(blockIdx.y) * matrix_columns;
  // Taps (u0 + stride a, v0 + stride b), a < taps_y, b < taps_x; they meet row i + (p + padding - u0) / stride - a of dy.
  const int u0 = (p + padding) % stride, v0 = (q + padding) % stride;
  const int taps_y = max(0, (int(s.kernel_h) - u0 + stride - 1) / stride), taps_x = max(0, (int(s.kernel_w) - v0 + stride - 1) / stride);
  const int depth = taps_y * taps_x * og, taps = int(s.taps());
  Pixels<Piece::per_thread> at;
#pragma unroll
  for (int i = 0; i < Piece::per_thread; i++)
    at.set(i, first_pixel + Piece::side(i), pixels, rows, columns, 1, (p + padding - u0) / stride, (q + padding - v0) / stride, ho * wo);
  const MatrixSums sums = matrix_product<Fast::depth, Fast::side>(
      0, depth,
      [&](int i, int, int64_t k) {
        const int tap = int(k) / og, oy = at.y[i] - tap / taps_x, ox = at.x[i] - tap % taps_x;
        const bool inside = k < depth && oy >= 0 && oy < ho && ox >= 0 && ox < wo;
        return Source{inside ? dy + int64_t(at.image[i] + oy * wo + ox) * s.out_channels + group * og + int(k) % og : dy, inside};
      },
      [&](int, int side, int64_t k) {
        const int c = first_channel + side, tap = int(k) / og, o = int(k) % og;
        const bool inside = c < cg && k < depth;
        const int u = u0 + stride * (tap / taps_x), v = v0 + stride * (tap % taps_x);
        const int64_t from = ((int64_t(group) * og + o) * taps + u * int(s.kernel_w) + v) * cg + c;
        return Source{inside ? weight + from : weight, inside};
      });
  sums.each_pair([&](int row, int column, float first, float second) {
    const int64_t pixel = first_pixel + row;
    if (pixel >= pixels) return;
    const int i = int(pixel) / columns % rows, j = int(pixel) % columns, image = int(pixel) / columns / rows, c = first_channel + column;
    const int64_t to = int64_t((image * height + i * stride + p) * width + j * stride + q);
    put_pair(dx + to * s.channels + group * cg + c, first, second, cg - c);
  });
}

// One block: 128 output channels x 64 values of taps x channels of one group, over one part of the pixels, into
// partial[part][out_channels][taps][channels of a group]; parts are added in order afterwards.
__global__ void __launch_bounds__(matrix_threads, 3)
    conv_backward_weight_matrix_kernel(float* partial, const bfloat16* dy, const bfloat16* x, Convolution s, int64_t part_pixels) {
  const int cg = int(s.group_channels()), og = int(s.group_out_channels()), kw = int(s.kernel_w), depth = int(s.taps()) * cg;
  const int group = int(blockIdx.z) % int(s.groups), part = int(blockIdx.z) / int(s.groups);
  const int ho = int(s.out_height()), wo = int(s.out_width()), height = int(s.height), width = int(s.width);
  const int64_t pixels = s.batch * ho * wo, end = min(pixels, (part + 1) * part_pixels);
  const int first_row = int(blockIdx.x) * matrix_rows, first_column = int(blockIdx.y) * matrix_columns;
  // The side of this thread's packs of x, one tap and 8 channels, is the same for all pixels.
  const int value = first_column + OperandPiece<Fast::side, matrix_columns>::side(0), tap = value / cg;
  const int shift_y = tap / kw - int(s.padding), shift_x = tap % kw - int(s.padding), stride = int(s.stride);
  const bfloat16* const channel = x + group * cg + value % cg;
  const MatrixSums sums = matrix_product<Fast::side, Fast::side>(
      part * part_pixels, end,
      [&](int, int side, int64_t p) {
        const int o = first_row + side;
        const bool inside = o < og && p < end;
        return Source{inside ? dy + p * s.out_channels + group * og + o : dy, inside};
      },
      [&](int, int, int64_t p) {
        const int row = int(p) / wo, iy = row % ho * stride + shift_y, ix = (int(p) - row * wo) * stride + shift_x;
        const bool inside = value < depth && p < end && iy >= 0 && iy < height && ix >= 0 && ix < width;
        return Source{inside ? channel + int64_t((row / ho * height + iy) * width + ix) * s.channels : x, inside};
      });
  sums.each_pair([&](int row, int column, float first, float second) {
    const int o = first_row + row, v = first_column + column;
    if (o < og) put_pair(partial + part * s.weight_size() + (int64_t(group) * og + o) * depth + v, first, second, depth - v);
  });
}

}  // namespace turl
