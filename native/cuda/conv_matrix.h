// Convolution of bfloat16 as implicit GEMM on matrix units (matrix_product.h), for output channels that come in packs of 8; shapes and
// formula in convolution.h. Nothing of the size of an im2col matrix exists: a block works out the positions of the pixels that its
// threads copy, and the inner dimension runs over taps x channels, each pack of 8 channels read from where its tap lies. Input
// channels that come in no packs, as the three of an image, are gathered one by one (packed = false).
// For each step of the inner dimension a block reads (128 + 64) x 2 bytes for 128 x 64 products: 43 operations a byte.
#pragma once
#include "convolution.h"
#include "cuda/matrix_product.h"
#include "divisor.h"

namespace turl {

// Whether the kernels below can take it: 16-byte packs of output channels, and indices that fit.
inline bool on_matrix_units(const Convolution& s) {
  return s.group_out_channels() % 8 == 0 && s.x_size() / s.channels < (1 << 30) &&
         s.y_size() / s.out_channels < (1 << 30) && s.weight_size() / s.out_channels < (1 << 30);
}

// The sizes of a Convolution as the kernels use them, and what they divide by as they go.
struct MatrixConvolution {
  int batch, height, width, channels, out_channels, kernel_h, kernel_w, stride, padding, groups;
  int out_height, out_width, taps, group_channels, group_out_channels;
  Divisor by_group_channels, by_group_out_channels, by_kernel_w, by_out_height, by_out_width;

  explicit MatrixConvolution(const Convolution& s)
      : batch(int(s.batch)), height(int(s.height)), width(int(s.width)), channels(int(s.channels)),
        out_channels(int(s.out_channels)), kernel_h(int(s.kernel_h)), kernel_w(int(s.kernel_w)), stride(int(s.stride)),
        padding(int(s.padding)), groups(int(s.groups)), out_height(int(s.out_height())), out_width(int(s.out_width())),
        taps(int(s.taps())), group_channels(int(s.group_channels())), group_out_channels(int(s.group_out_channels())),
        by_group_channels(group_channels), by_group_out_channels(group_out_channels), by_kernel_w(kernel_w),
        by_out_height(out_height), by_out_width(out_width) {}
};

// The pixels that a thread copies: first input pixel of its image, and the position that tap (0, 0) meets; row -2^20 past the end.
template <int count> struct Pixels {
  int image[count], y[count], x[count];

  __device__ void set(int i, int pixel, int pixels, int rows, int columns, int step, int shift_y, int shift_x, int image_size) {
    const int p = pixel < pixels ? pixel : 0;
    image[i] = p / columns / rows * image_size;
    y[i] = pixel < pixels ? p / columns % rows * step + shift_y : -(1 << 20);
    x[i] = p % columns * step + shift_x;
  }
};

__device__ inline bool within(int i, int size) { return unsigned(i) < unsigned(size); }

// One block: 128 pixels of y x 64 output channels of one group.
template <bool packed>
__global__ void __launch_bounds__(matrix_threads, packed ? 3 : 2)
    conv_forward_matrix_kernel(bfloat16* y, const bfloat16* x, const bfloat16* weight, MatrixConvolution s) {
  using Piece = OperandPiece<Fast::depth, matrix_rows>;
  const int group = int(blockIdx.z), depth = s.taps * s.group_channels, pixels = s.batch * s.out_height * s.out_width;
  const int first_pixel = int(blockIdx.x) * matrix_rows, first_channel = int(blockIdx.y) * matrix_columns;
  x += group * s.group_channels, y += group * s.group_out_channels, weight += int64_t(group) * s.group_out_channels * depth;
  Pixels<Piece::per_thread> at;
#pragma unroll
  for (int i = 0; i < Piece::per_thread; i++)
    at.set(i, first_pixel + Piece::side(i), pixels, s.out_height, s.out_width, s.stride, -s.padding, -s.padding,
           s.height * s.width);
  MatrixSums sums = matrix_product<Fast::depth, Fast::depth>(
      0, depth,
      [&](Pack<bfloat16>* to, int i, int, int first_k) {
        put<packed>(to, x, first_k, [&](int k) {
          const int tap = s.by_group_channels.quotient(k), c = s.by_group_channels.rest(k, tap);
          const int u = s.by_kernel_w.quotient(tap), v = s.by_kernel_w.rest(tap, u), iy = at.y[i] + u, ix = at.x[i] + v;
          const bool inside = k < depth && within(iy, s.height) && within(ix, s.width);
          return At{inside, int64_t(inside ? at.image[i] + iy * s.width + ix : 0) * s.channels + c};
        });
      },
      [&](Pack<bfloat16>* to, int, int side, int first_k) {
        put<packed>(to, weight, first_k, [&](int k) {
          const bool inside = first_channel + side < s.group_out_channels && k < depth;
          return At{inside, inside ? int64_t(first_channel + side) * depth + k : 0};
        });
      });
  sums.each_pack([&](int row, int column, const Pack<bfloat16>& pack) {
    const int o = first_channel + column;
    if (first_pixel + row < pixels)
      put_pack(y + int64_t(first_pixel + row) * s.out_channels + o, pack, s.group_out_channels - o);
  });
}

// The image's gradient with stride s falls into s x s phases: the pixels (s i + p, s j + q) meet only the taps u = p + padding
// (mod s), v = q + padding (mod s), so no product with a zero is computed. One block: 128 pixels of a phase x 64 input channels of
// one group; blockIdx.z runs over groups and phases.
template <bool packed>
__global__ void __launch_bounds__(matrix_threads, packed ? 3 : 2)
    conv_backward_data_matrix_kernel(bfloat16* dx, const bfloat16* dy, const bfloat16* weight, MatrixConvolution s) {
  using Piece = OperandPiece<Fast::depth, matrix_rows>;
  const int cg = s.group_channels, og = s.group_out_channels, stride = s.stride;
  const int group = int(blockIdx.z) % s.groups, phase = int(blockIdx.z) / s.groups, p = phase / stride, q = phase % stride;
  const int rows = (s.height - p + stride - 1) / stride, columns = (s.width - q + stride - 1) / stride;
  const int pixels = s.batch * rows * columns, first_pixel = int(blockIdx.x) * matrix_rows;
  if (first_pixel >= pixels) return;
  const int first_channel = int(blockIdx.y) * matrix_columns;
  dy += group * og, dx += group * cg, weight += int64_t(group) * og * s.taps * cg;
  // Taps (u0 + stride a, v0 + stride b), a < taps_y, b < taps_x; they meet row i + (p + padding - u0) / stride - a of dy.
  const int u0 = (p + s.padding) % stride, v0 = (q + s.padding) % stride;
  const int taps_y = max(0, (s.kernel_h - u0 + stride - 1) / stride), taps_x = max(0, (s.kernel_w - v0 + stride - 1) / stride);
  const int depth = taps_y * taps_x * og;
  const Divisor by_taps_x{max(1, taps_x)};
  Pixels<Piece::per_thread> at;
#pragma unroll
  for (int i = 0; i < Piece::per_thread; i++)
    at.set(i, first_pixel + Piece::side(i), pixels, rows, columns, 1, (p + s.padding - u0) / stride, (q + s.padding - v0) / stride,
           s.out_height * s.out_width);
  MatrixSums sums = matrix_product<Fast::depth, Fast::side>(
      0, depth,
      [&](Pack<bfloat16>* to, int i, int, int k) {
        const int tap = s.by_group_out_channels.quotient(k), o = s.by_group_out_channels.rest(k, tap);
        const int a = by_taps_x.quotient(tap), oy = at.y[i] - a, ox = at.x[i] - by_taps_x.rest(tap, a);
        const bool inside = k < depth && within(oy, s.out_height) && within(ox, s.out_width);
        copy_async(to, dy + int64_t(inside ? at.image[i] + oy * s.out_width + ox : 0) * s.out_channels + o, inside);
      },
      [&](Pack<bfloat16>* to, int, int side, int k) {
        const int tap = s.by_group_out_channels.quotient(k), o = s.by_group_out_channels.rest(k, tap);
        const int a = by_taps_x.quotient(tap), u = u0 + stride * a, v = v0 + stride * by_taps_x.rest(tap, a);
        put<packed>(to, weight, first_channel + side, [&](int c) {
          const bool inside = c < cg && k < depth;
          return At{inside, inside ? int64_t(o * s.taps + u * s.kernel_w + v) * cg + c : 0};
        });
      });
  sums.each_pack([&](int row, int column, const Pack<bfloat16>& pack) {
    const int pixel = first_pixel + row;
    if (pixel >= pixels) return;
    const int i = pixel / columns % rows, j = pixel % columns, image = pixel / columns / rows, c = first_channel + column;
    const int to = (image * s.height + i * stride + p) * s.width + j * stride + q;
    put_pack(dx + int64_t(to) * s.channels + c, pack, cg - c);
  });
}

// One block: 128 output channels x 64 values of taps x channels of one group, over one part of the pixels, into
// partial[part][out_channels][taps][channels of a group]; parts are added in order afterwards.
template <bool packed>
__global__ void __launch_bounds__(matrix_threads, packed ? 3 : 2)
    conv_backward_weight_matrix_kernel(float* partial, const bfloat16* dy, const bfloat16* x, MatrixConvolution s, int part_pixels) {
  const int og = s.group_out_channels, depth = s.taps * s.group_channels;
  const int group = int(blockIdx.z) % s.groups, part = int(blockIdx.z) / s.groups;
  const int pixels = s.batch * s.out_height * s.out_width;
  const int begin = part * part_pixels, end = begin + min(pixels - begin, part_pixels);
  const int first_row = int(blockIdx.x) * matrix_rows, first_column = int(blockIdx.y) * matrix_columns;
  dy += group * og, x += group * s.group_channels;
  MatrixSums sums = matrix_product<Fast::side, Fast::side>(
      begin, end,
      [&](Pack<bfloat16>* to, int, int side, int p) {
        const int o = first_row + side;
        const bool inside = o < og && p < end;
        copy_async(to, dy + (inside ? int64_t(p) * s.out_channels + o : 0), inside);
      },
      [&](Pack<bfloat16>* to, int, int side, int p) {
        const int row = s.by_out_width.quotient(p), image = s.by_out_height.quotient(row);
        const int y = s.by_out_height.rest(row, image) * s.stride - s.padding, x0 = s.by_out_width.rest(p, row) * s.stride - s.padding;
        put<packed>(to, x, first_column + side, [&](int value) {  // a tap and channel, the same for all pixels
          const int tap = s.by_group_channels.quotient(value), c = s.by_group_channels.rest(value, tap);
          const int u = s.by_kernel_w.quotient(tap), iy = y + u, ix = x0 + s.by_kernel_w.rest(tap, u);
          const bool inside = value < depth && p < end && within(iy, s.height) && within(ix, s.width);
          return At{inside, int64_t(inside ? (image * s.height + iy) * s.width + ix : 0) * s.channels + c};
        });
      });
  partial += (int64_t(part) * s.out_channels + int64_t(group) * og) * depth;
  sums.each_pair([&](int row, int column, float first, float second) {
    const int o = first_row + row, v = first_column + column;
    if (o < og) put_pair(partial + int64_t(o) * depth + v, first, second, depth - v);
  });
}

}  // namespace turl
