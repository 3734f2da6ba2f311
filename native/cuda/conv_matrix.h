// Convolution of bfloat16 as implicit GEMM on matrix units (mma_product.h, warpgroup_product.h), for output channels that come in
// packs of 8; shapes and formula in convolution.h. The im2col matrix is never built: a block computes the positions of the pixels that its
// threads copy, and the inner dimension runs over taps x channels, where each pack of 8 channels is read from where its tap lies. On Hopper it
// runs over all taps of 64 channels, then over all taps of the next 64: the pixels that one tap has met are in the L1 cache when the next tap
// meets them. Input channels that do not come in packs are gathered one by one (packed = false); a few input channels have conv_image.h.
// A block computes a tile of Units::rows x Units::columns. The rows are the longer dimension, pixels or weights; the columns are channels of
// one group.
#pragma once
#include <algorithm>
#include "convolution.h"
#include "cuda/channel_sums.h"
#include "cuda/warpgroup_product.h"
#include "divisor.h"

namespace turl {

// Whether the kernels below can do it: output channels come in 16-byte packs, and indices fit into 32 bits.
inline bool on_matrix_units(const Convolution& s) {
  const int64_t side = 1 << 13;  // rows and columns are int16_t, with -2^14 for none (Pixels)
  return s.group_out_channels() % 8 == 0 && s.x_size() / s.channels < (1 << 30) &&
         s.y_size() / s.out_channels < (1 << 30) && s.weight_size() / s.out_channels < (1 << 30) &&
         std::max(s.height, s.width) + s.padding + std::max(s.kernel_h, s.kernel_w) < side;
}

// The sizes of a Convolution as the kernels use them, and the divisors that they need.
struct MatrixConvolution {
  int batch, height, width, channels, out_channels, kernel_h, kernel_w, stride, padding, groups;
  int out_height, out_width, taps, group_channels, group_out_channels;
  int tap_depth;            // output channels of a group, padded with zeros to a multiple of tap_multiple
  int in_chunk, out_chunk;  // input and output channels of a group that follow one another in the inner dimension before the next tap
  Divisor by_group_channels, by_in_chunk, by_in_taps, by_out_chunk, by_kernel_w, by_out_height, by_out_width;
  Divisor by_rows, by_more_rows, by_columns, by_more_columns;  // rows and columns of a phase of dx, of which the first may have one more

  MatrixConvolution(const Convolution& s, int tap_multiple)
      : batch(int(s.batch)), height(int(s.height)), width(int(s.width)), channels(int(s.channels)),
        out_channels(int(s.out_channels)), kernel_h(int(s.kernel_h)), kernel_w(int(s.kernel_w)), stride(int(s.stride)),
        padding(int(s.padding)), groups(int(s.groups)), out_height(int(s.out_height())), out_width(int(s.out_width())),
        taps(int(s.taps())), group_channels(int(s.group_channels())), group_out_channels(int(s.group_out_channels())),
        tap_depth(ceil_div(group_out_channels, tap_multiple) * tap_multiple),
        in_chunk(tap_multiple > 1 && group_channels % tap_multiple == 0 ? tap_multiple : group_channels),
        out_chunk(tap_multiple > 1 ? tap_multiple : tap_depth), by_group_channels(group_channels), by_in_chunk(in_chunk),
        by_in_taps(taps * in_chunk), by_out_chunk(out_chunk), by_kernel_w(kernel_w), by_out_height(out_height),
        by_out_width(out_width), by_rows(std::max(height / stride, 1)), by_more_rows(height / stride + 1),
        by_columns(std::max(width / stride, 1)), by_more_columns(width / stride + 1) {}
};

// The pixels that a thread copies: for each, the pixel that tap (0, 0) meets in an image of height x width, in as few registers as possible.
template <int count> struct Pixels {
  int first[count];            // its number among all pixels of the batch, also outside of the image, where it is not read
  int16_t y[count], x[count];  // its row and column; row -2^14 for threads past the last pixel

  __device__ void set(int i, int pixel, int pixels, const Divisor& by_rows, const Divisor& by_columns, int step, int shift_y, int shift_x,
                      int height, int width) {
    const int p = pixel < pixels ? pixel : 0, line = by_columns.quotient(p), image = by_rows.quotient(line);
    const int top = by_rows.remainder(line, image) * step + shift_y, left = by_columns.remainder(p, line) * step + shift_x;
    first[i] = (image * height + top) * width + left;
    y[i] = int16_t(pixel < pixels ? top : -(1 << 14)), x[i] = int16_t(left);
  }
};

// The right operand in the form that the units need: packs of an array that every thread copies, or blocks of a tensor map, which has no groups.
template <class P, class B> __device__ auto right_operand(const bfloat16* matrix, P in_packs, B) {
  return [=](Pack<bfloat16>* to, int, int side, int k) { in_packs(to, matrix, side, k); };
}
template <class P, class B> __device__ auto right_operand(const TensorMap& matrix, P, B by_blocks) {
  return InBlocks{[=, &matrix](Pack<bfloat16>* to, int side, int k, Mbarrier& full) { by_blocks(to, matrix, side, k, full); }};
}

// Rows are pixels of y, columns output channels; grid [row tiles, column tiles, groups]. If chunk_sums is not null, a row tile is a chunk for
// the sums (channel_sums.h).
template <class Units, bool packed>
__global__ void __launch_bounds__(Units::threads, Units::blocks(packed))
    conv_forward_matrix_kernel(bfloat16* y, float* chunk_sums, const bfloat16* x, const __grid_constant__ typename Units::Matrix weight,
                               MatrixConvolution s) {
  begin_kernel();
  using Piece = typename Units::template Piece<Fast::depth, Units::rows>;
  const int group = int(blockIdx.z), depth = s.taps * s.group_channels, pixels = s.batch * s.out_height * s.out_width;
  const int first_pixel = int(blockIdx.x) * Units::rows, first_channel = int(blockIdx.y) * Units::columns;
  x += group * s.group_channels, y += group * s.group_out_channels;
  Pixels<Piece::per_thread> at;
#pragma unroll
  for (int i = 0; i < Piece::per_thread; i++)
    at.set(i, first_pixel + Piece::side(i), pixels, s.by_out_height, s.by_out_width, s.stride, -s.padding, -s.padding,
           s.height, s.width);
  const auto place = [&](int k, int& tap, int& c) {
    const int chunk = s.by_in_taps.quotient(k), rest = s.by_in_taps.remainder(k, chunk);
    tap = s.by_in_chunk.quotient(rest), c = chunk * s.in_chunk + s.by_in_chunk.remainder(rest, tap);
  };
  Units::template product<Fast::depth, Fast::depth>(
      0, depth,
      [&](Pack<bfloat16>* to, int i, int, int first_k) {
        put<packed, true>(to, first_k, [&](int k) {
          int tap, c;
          place(k, tap, c);
          const int u = s.by_kernel_w.quotient(tap), v = s.by_kernel_w.remainder(tap, u), iy = at.y[i] + u, ix = at.x[i] + v;
          const bool inside = k < depth && within(iy, s.height) && within(ix, s.width);
          return At{inside, x + ((u * s.width + v) * s.channels + c) + int64_t(at.first[i]) * s.channels};
        });
      },
      right_operand(
          weight,
          [&](Pack<bfloat16>* to, const bfloat16* weight, int side, int first_k) {
            put<packed>(to, first_k, [&](int k) {
              const int o = group * s.group_out_channels + first_channel + side;
              const bool inside = first_channel + side < s.group_out_channels && k < depth;
              return At{inside, weight + k + int64_t(o) * depth};
            });
          },
          [&](Pack<bfloat16>* to, const TensorMap& weight, int side, int k, Mbarrier& full) {
            int tap, c;
            place(k, tap, c);
            copy_block(to, weight, tap * s.group_channels + c, first_channel + side, 0, full);
          }),
      [&](const auto& sums) {
        sums.each_row([&](int m, int half) {
          const int pixel = first_pixel + sums.row(m, half);
          sums.packs(m, half, [&](int column, const Pack<bfloat16>& pack) {
            const int o = first_channel + column;
            if (pixel < pixels) put_pack(y + int64_t(pixel) * s.out_channels + o, pack, s.group_out_channels - o);
          });
        });
        if (chunk_sums)  // all rows count: those past the last pixel are zero
          leave_column_sums<Units>(chunk_sums + int64_t(blockIdx.x) * 2 * s.out_channels + group * s.group_out_channels + first_channel,
                                   s.out_channels, s.group_out_channels - first_channel, sums, [](int, int) { return true; });
      });
}

// The image's gradient with stride s consists of s x s phases: the pixels (s i + p, s j + q) meet only the taps u = p + padding
// (mod s), v = q + padding (mod s), so no product with a zero is computed. Rows are pixels of a phase, columns input channels; grid
// [row tiles, column tiles, phases x groups].
template <class Units, bool packed>
__global__ void __launch_bounds__(Units::threads, Units::blocks(packed))
    conv_backward_data_matrix_kernel(bfloat16* dx, const bfloat16* dy, const __grid_constant__ typename Units::Matrix weight,
                                     MatrixConvolution s) {
  begin_kernel();
  using Piece = typename Units::template Piece<Fast::depth, Units::rows>;
  const int cg = s.group_channels, og = s.group_out_channels, stride = s.stride;
  const int group = int(blockIdx.z) % s.groups, phase = int(blockIdx.z) / s.groups, p = phase / stride, q = phase % stride;
  const int rows = (s.height - p + stride - 1) / stride, columns = (s.width - q + stride - 1) / stride;
  const int pixels = s.batch * rows * columns, first_pixel = int(blockIdx.x) * Units::rows;
  if (first_pixel >= pixels) return;
  const Divisor by_rows = p < s.height % stride ? s.by_more_rows : s.by_rows;
  const Divisor by_columns = q < s.width % stride ? s.by_more_columns : s.by_columns;
  const int first_channel = int(blockIdx.y) * Units::columns;
  dy += group * og, dx += group * cg;
  // Taps (u0 + stride a, v0 + stride b), a < taps_y, b < taps_x; they meet row i + (p + padding - u0) / stride - a of dy.
  const int u0 = (p + s.padding) % stride, v0 = (q + s.padding) % stride;
  const int taps_y = max(0, (s.kernel_h - u0 + stride - 1) / stride), taps_x = max(0, (s.kernel_w - v0 + stride - 1) / stride);
  const int depth = taps_y * taps_x * s.tap_depth;
  const Divisor by_taps_x{max(1, taps_x)}, by_taps{max(1, taps_y * taps_x * s.out_chunk)};
  const auto place = [&](int k, int& tap, int& o) {
    const int chunk = by_taps.quotient(k), rest = by_taps.remainder(k, chunk);
    tap = s.by_out_chunk.quotient(rest), o = chunk * s.out_chunk + s.by_out_chunk.remainder(rest, tap);
  };
  const auto tap_of = [&](int tap) {  // the number in the whole window of a tap of this phase
    const int a = by_taps_x.quotient(tap);
    return (u0 + stride * a) * s.kernel_w + v0 + stride * by_taps_x.remainder(tap, a);
  };
  Pixels<Piece::per_thread> at;
#pragma unroll
  for (int i = 0; i < Piece::per_thread; i++)
    at.set(i, first_pixel + Piece::side(i), pixels, by_rows, by_columns, 1, (p + s.padding - u0) / stride, (q + s.padding - v0) / stride,
           s.out_height, s.out_width);
  Units::template product<Fast::depth, Fast::side>(
      0, depth,
      [&](Pack<bfloat16>* to, int i, int, int k) {
        int tap, o;
        place(k, tap, o);
        const int a = by_taps_x.quotient(tap), b = by_taps_x.remainder(tap, a), oy = at.y[i] - a, ox = at.x[i] - b;
        const bool inside = k < depth && o < og && within(oy, s.out_height) && within(ox, s.out_width);
        copy_async_cached(to, dy + (o - (a * s.out_width + b) * s.out_channels) + int64_t(at.first[i]) * s.out_channels, inside);
      },
      right_operand(
          weight,
          [&](Pack<bfloat16>* to, const bfloat16* weight, int side, int k) {
            int tap, o;
            place(k, tap, o);
            put<packed>(to, first_channel + side, [&](int c) {
              const bool inside = c < cg && k < depth;
              return At{inside, weight + int64_t((group * og + o) * s.taps + tap_of(tap)) * cg + c};
            });
          },
          [&](Pack<bfloat16>* to, const TensorMap& weight, int side, int k, Mbarrier& full) {
            int tap, o;
            place(k, tap, o);
            copy_block(to, weight, first_channel + side, tap_of(tap), o, full);
          }),
      [&](const auto& sums) {
        sums.each_row([&](int m, int half) {
          const int pixel = first_pixel + sums.row(m, half);
          const int line = by_columns.quotient(pixel), image = by_rows.quotient(line);
          const int i = by_rows.remainder(line, image), j = by_columns.remainder(pixel, line);
          const int to = (image * s.height + i * stride + p) * s.width + j * stride + q;
          sums.packs(m, half, [&](int column, const Pack<bfloat16>& pack) {
            const int c = first_channel + column;
            if (pixel < pixels) put_pack(dx + int64_t(to) * s.channels + c, pack, cg - c);
          });
        });
      });
}

// Rows are values of taps x channels, columns output channels, over one part of the pixels; into
// partial[part][out_channels][taps][channels of a group], whose parts are added in order afterwards. Grid [row tiles, column tiles,
// parts x groups]. A part is a multiple of 64 pixels, except the last one, after which a tensor map gives zeros. A warp writes eight
// neighbouring rows of a column at a time: 32 bytes.
template <class Units, bool packed>
__global__ void __launch_bounds__(Units::threads, Units::blocks(packed))
    conv_backward_weight_matrix_kernel(float* partial, const __grid_constant__ typename Units::Matrix dy, const bfloat16* x,
                                       MatrixConvolution s, int part_pixels) {
  begin_kernel();
  const int og = s.group_out_channels, depth = s.taps * s.group_channels;
  const int group = int(blockIdx.z) % s.groups, part = int(blockIdx.z) / s.groups;
  const int pixels = s.batch * s.out_height * s.out_width;
  const int begin = part * part_pixels, end = begin + min(pixels - begin, part_pixels);
  const int first_row = int(blockIdx.x) * Units::rows, first_column = int(blockIdx.y) * Units::columns;
  x += group * s.group_channels, partial += (int64_t(part) * s.out_channels + int64_t(group) * og) * depth;
  Units::template product<Fast::side, Fast::side>(
      begin, end,
      [&](Pack<bfloat16>* to, int, int side, int p) {
        const int row = s.by_out_width.quotient(p), image = s.by_out_height.quotient(row);
        const int y = s.by_out_height.remainder(row, image) * s.stride - s.padding, x0 = s.by_out_width.remainder(p, row) * s.stride - s.padding;
        // Where columns are 64, channels are few: the rows of a tile are several taps, which meet the same pixels, so L1 helps.
        put<packed, Units::columns == 64>(to, first_row + side, [&](int value) {  // a tap and a channel
          const int tap = s.by_group_channels.quotient(value), c = s.by_group_channels.remainder(value, tap);
          const int u = s.by_kernel_w.quotient(tap), iy = y + u, ix = x0 + s.by_kernel_w.remainder(tap, u);
          const bool inside = value < depth && p < end && within(iy, s.height) && within(ix, s.width);
          return At{inside, x + c + int64_t((image * s.height + iy) * s.width + ix) * s.channels};
        });
      },
      right_operand(
          dy,
          [&](Pack<bfloat16>* to, const bfloat16* dy, int side, int p) {
            const int o = first_column + side;
            const bool inside = o < og && p < end;
            copy_async(to, dy + (group * og + o) + int64_t(p) * s.out_channels, inside);
          },
          [&](Pack<bfloat16>* to, const TensorMap& dy, int side, int p, Mbarrier& full) {
            copy_block(to, dy, first_column + side, p, 0, full);
          }),
      [&](auto& sums) {
        sums.each_row([&](int m, int half) {
          const int v = first_row + sums.row(m, half);
          sums.pairs(m, half, [&](int column, float first, float second) {
            const int o = first_column + column;
            if (v >= depth || o >= og) return;
            partial[int64_t(o) * depth + v] = first;
            partial[int64_t(o + 1) * depth + v] = second;  // output channels come in packs of 8
          });
        });
      });
}

}  // namespace turl
