// Depthwise convolution with a window of 3x3 and stride 1 or 2, along whole rows of pixels, one block of channels at a time. The nine taps
// (for the weight's gradient the nine sums) stay in registers, and so do the results to which the current column of pixels contributes: each
// pixel is loaded once for two rows of results. Where results are written, a block is one cache line of a pixel. Pixels often lie a power of
// two apart, and then fall into few sets of the first-level cache; but a row needs no line twice. What is read next is prefetched in the
// order of memory, since hardware does not foresee strides of a pixel.
#pragma once
#include <algorithm>
#include "cpu/channel_sums.h"

namespace turl {

// Channels of a block: at least 16; a cache line of T where there are enough registers for its taps and sums (AVX-512).
constexpr int least_channels = 16;
template <class T> constexpr int line_channels = lanes == 16 ? 64 / int(sizeof(T)) : least_channels;
template <int channels> struct Block {
  static constexpr int vectors = channels / lanes;
  vfloat part[vectors];
  template <class T> static Block load(const T* p) {
    Block b;
    for (int i = 0; i < vectors; i++) b.part[i] = turl::load(p + i * lanes);
    return b;
  }
  // Returns the stored values.
  template <class T> Block store(T* p, bool streaming) const {
    Block stored;
    for (int i = 0; i < vectors; i++)
      stored.part[i] = streaming ? put_rounded<true>(p + i * lanes, part[i]) : put_rounded<false>(p + i * lanes, part[i]);
    return stored;
  }
};
template <int channels> inline Block<channels> fma(const Block<channels>& a, const Block<channels>& b, Block<channels> c) {
  for (int i = 0; i < Block<channels>::vectors; i++) c.part[i] = fma(a.part[i], b.part[i], c.part[i]);
  return c;
}

// A row of an image from some channel on: pixel j is at p + j step. Outside of the image, a row to read is a single pixel of zeros with step
// 0, and a row to write is null.
template <class T> struct Row {
  T* p;
  int64_t step;
};

alignas(64) inline constexpr float zero_pixel[least_channels] = {};  // the same bits in bfloat16

template <class T> struct Images {
  T* p;
  int64_t height, width, channels;
  T* at(int64_t image, int64_t i) const { return p + (image * height + i) * width * channels; }
  Row<T> row(int64_t image, int64_t i, int64_t channel) const {
    if (i >= 0 && i < height) return {at(image, i) + channel, channels};
    if constexpr (std::is_const_v<T>) return {reinterpret_cast<T*>(zero_pixel), 0};
    else return {nullptr, 0};
  }
};

// Prefetches memory from p on, line by line.
template <class T> struct Ahead {
  const T* p;
  void prefetch(int elements) {
    __builtin_prefetch(p);
    p += elements;
  }
};

// Rows of x that `rows` rows of y need; and how many results of a row are still unfinished when one is finished.
template <int stride> constexpr int rows_read(int rows) { return (rows - 1) * stride + 3; }
template <int stride> constexpr int carried = stride == 1 ? 2 : 1;

// Calls step(j, inside) for the results j of a row, from -carried on. Each step takes the next `stride` columns of x, of which the last is the
// last one that result j needs. inside(column) tells whether a column lies in the image; for all but the first and last j it is constant
// true.
template <int stride, class F>
inline __attribute__((always_inline)) void along(int64_t columns, int64_t results, int64_t padding, F&& step) {
  const auto check = [columns](int64_t column) { return column >= 0 && column < columns; };
  const int64_t first = std::min(results, ceil_div(std::max<int64_t>(0, padding + stride - 3), stride));
  // A step also loads dy of the result `carried` places after j (slide_weight).
  const int64_t last = std::min(results - carried<stride>, ceil_div(std::max<int64_t>(0, columns + padding - 2), stride));
  int64_t j = -carried<stride>;
  for (; j < first; j++) step(j, check);
  for (; j < last; j++) step(j, [](int64_t) { return true; });
  for (; j < results; j++) step(j, check);
}
// The column of x that is number k of the `stride` columns of step j; and which column of the window that is for result j + m (negative: none).
template <int stride> constexpr int64_t column_of(int64_t j, int k, int64_t padding) {
  return j * stride + 3 - stride + k - padding;
}
template <int stride> constexpr int window_column(int k, int m) { return 3 - (m + 1) * stride + k; }

// y[r][j] = sum over u, v of x[r stride + u][j stride + v - padding] w[u][v] for one or two rows r of y, which follow each other in memory,
// and one block of channels. If `summed`, results are summed for the columns of `sums` from c on; `fresh` as for RowSums.
template <int stride, int rows, int block, bool summed, class T>
__attribute__((noinline)) void slide(T* y, const Row<const T>* from, const float* w, int64_t channels, int64_t columns,
                                     int64_t results, int64_t padding, bool streaming, Ahead<T> ahead, RowSums sums, int64_t c,
                                     bool fresh) {
  constexpr int lines = rows_read<stride>(rows);
  Row<const T> x[lines];  // a copy stays in registers, whatever is written to y
  std::copy_n(from, lines, x);
  Block<block> tap[9], sum[rows][carried<stride> + 1] = {}, origin, total[2] = {};
  bool known = !fresh;
  if (summed && known) origin = Block<block>::load(sums.origin + c);
#pragma GCC unroll 9
  for (int t = 0; t < 9; t++) tap[t] = Block<block>::load(w + t * channels);
  along<stride>(columns, results, padding, [&](int64_t j, auto inside) __attribute__((always_inline)) {
#pragma GCC unroll 2
    for (int k = 0; k < stride; k++) {
      const int64_t column = column_of<stride>(j, k, padding);
      if (!inside(column)) continue;
#pragma GCC unroll 5
      for (int l = 0; l < lines; l++) {
        const auto in = Block<block>::load(x[l].p + column * x[l].step);
        if (l < rows * stride) ahead.prefetch(block);
#pragma GCC unroll 2
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
          for (int m = 0; m <= carried<stride>; m++) {
            const int u = l - r * stride, v = window_column<stride>(k, m);
            if (u >= 0 && u < 3 && v >= 0) sum[r][m] = fma(in, tap[u * 3 + v], sum[r][m]);
          }
      }
    }
#pragma GCC unroll 2
    for (int r = 0; r < rows; r++) {
      if (j >= 0) {
        const auto stored = sum[r][0].store(y + (r * results + j) * channels, streaming);
        if (summed && !known) origin = stored, known = true;
        for (int i = 0; summed && i < Block<block>::vectors; i++) {
          const vfloat d = stored.part[i] - origin.part[i];
          total[0].part[i] += d, total[1].part[i] = turl::fma(d, d, total[1].part[i]);
        }
      }
#pragma GCC unroll 2
      for (int m = 0; m < carried<stride>; m++) sum[r][m] = sum[r][m + 1];
      sum[r][carried<stride>] = {};
    }
  });
  if constexpr (summed) {
    origin.store(sums.origin + c, false);
    for (int i = 0; i < 2; i++) {
      float* const to = sums.origin + (i + 1) * sums.columns + c;
      for (int v = 0; !fresh && v < Block<block>::vectors; v++) total[i].part[v] += load(to + v * lanes);
      total[i].store(to, false);
    }
  }
}

// The image's gradient with stride 2: two rows of dx, at columns 2 c - padding and 2 c - padding + 1, from two rows of dy. The first row of dx
// meets the upper row of dy with row 2 of the taps and the lower one with row 0; the second row meets the lower one with row 1.
template <int block, class T>
__attribute__((noinline)) void spread(const Row<T>* dx, const Row<const T>* dy, const float* w, int64_t channels, int64_t width,
                                      int64_t results, int64_t padding, bool streaming, Ahead<T> ahead) {
  Block<block> tap[9], next[2] = {};
#pragma GCC unroll 9
  for (int t = 0; t < 9; t++) tap[t] = Block<block>::load(w + t * channels);
  const Row<T> to[2] = {dx[0], dx[1]};
  const Row<const T> above = dy[0], here = dy[1];
  // Column c of dy, if it is to be read; `left` and `right`: which of the two columns of dx lie in the image.
  const auto step = [&](int64_t c, bool read, bool left, bool right) __attribute__((always_inline)) {
    Block<block> even[2] = {next[0], next[1]}, odd[2] = {};
    next[0] = next[1] = {};
    if (read) {
      const auto a = Block<block>::load(above.p + c * above.step), h = Block<block>::load(here.p + c * here.step);
      ahead.prefetch(block);
      even[0] = fma(h, tap[0], fma(a, tap[6], even[0]));
      odd[0] = fma(h, tap[1], fma(a, tap[7], odd[0]));
      next[0] = fma(h, tap[2], fma(a, tap[8], next[0]));
      even[1] = fma(h, tap[3], even[1]);
      odd[1] = fma(h, tap[4], odd[1]);
      next[1] = fma(h, tap[5], next[1]);
    }
#pragma GCC unroll 2
    for (int r = 0; r < 2; r++) {
      if (!to[r].p) continue;
      T* p = to[r].p + (2 * c - padding) * channels;
      if (left) even[r].store(p, streaming);
      if (right) odd[r].store(p + channels, streaming);
    }
  };
  const auto edge = [&](int64_t c) __attribute__((always_inline)) {
    const int64_t j = 2 * c - padding;
    step(c, c < results, j >= 0 && j < width, j >= -1 && j + 1 < width);
  };
  const int64_t first = std::min(results, (padding + 1) / 2), last = std::min(results, (width + padding) / 2);
  const int64_t end = (width + 1 + padding) / 2;
  int64_t c = 0;
  for (; c < first; c++) edge(c);
  for (; c < last; c++) step(c, true, true, true);
  for (; c < end; c++) edge(c);
}

// total[u][v] += sum over r, j of dy[r][j] x[r stride + u][j stride + v - padding] for one or two rows r of dy, which follow each other in
// memory, and one vector of channels. Tap t of the total is at t total_step.
template <int stride, int rows, class T>
__attribute__((noinline)) void slide_weight(float* total, int64_t total_step, const T* dy, const Row<const T>* x,
                                            int64_t channels, int64_t columns, int64_t results, int64_t padding, Ahead<T> ahead,
                                            Ahead<T> dy_ahead) {
  constexpr int lines = rows_read<stride>(rows);
  vfloat sum[9], g[rows][carried<stride> + 1] = {};
#pragma GCC unroll 9
  for (int t = 0; t < 9; t++) sum[t] = load(total + t * total_step);
  along<stride>(columns, results, padding, [&](int64_t j, auto inside) __attribute__((always_inline)) {
    const int64_t next = j + carried<stride>;
#pragma GCC unroll 2
    for (int r = 0; r < rows; r++) {
      g[r][carried<stride>] = next < results ? load(dy + (r * results + next) * channels) : vfloat{};
      dy_ahead.prefetch(lanes);
    }
#pragma GCC unroll 2
    for (int k = 0; k < stride; k++) {
      const int64_t column = column_of<stride>(j, k, padding);
      if (!inside(column)) continue;
#pragma GCC unroll 5
      for (int l = 0; l < lines; l++) {
        const vfloat in = load(x[l].p + column * x[l].step);
        if (l < rows * stride) ahead.prefetch(lanes);
#pragma GCC unroll 2
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
          for (int m = 0; m <= carried<stride>; m++) {
            const int u = l - r * stride, v = window_column<stride>(k, m);
            if (u >= 0 && u < 3 && v >= 0) sum[u * 3 + v] = fma(in, g[r][m], sum[u * 3 + v]);
          }
      }
    }
#pragma GCC unroll 2
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
      for (int m = 0; m < carried<stride>; m++) g[r][m] = g[r][m + 1];
  });
#pragma GCC unroll 9
  for (int t = 0; t < 9; t++) store(total + t * total_step, sum[t]);
}

}  // namespace turl
