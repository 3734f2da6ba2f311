// The register tiles of convolution and matrix product: tile_rows x tile_columns sums (blocks.h) stay in registers while the loop over the
// inner dimension runs.
#pragma once
#include "cpu/channel_sums.h"

namespace turl {

// Length of the inner dimension such that a panel of tile_columns columns (20 KiB; AVX-512: 32 KiB) stays in the first-level cache while
// the tiles of a block are multiplied with it.
constexpr int64_t panel_depth = lanes == 16 ? 256 : 320;

// How a tile's sums go to the result: they overwrite it, are added to it, or overwrite it with streaming stores (channels.h).
enum class Write { plain, add, streaming };

// out[r][out_offset + j] (+)= sum over t < taps, c < depth of rows[t row_step + r][offset + c] panel[t depth + c][j], for r < valid and
// j < columns. All tile_rows pointers of a tap must be readable. Meanwhile the lines of the result are prefetched, and, unless `ahead` is 0,
// what the pointers `ahead` places further point to. If `sums` has memory, the results are summed there for the columns from out_offset on,
// `fresh` as for RowSums.
__attribute__((noinline)) inline void tile(const float* const* rows, int64_t row_step, int64_t taps, int64_t offset,
                                           int64_t depth, const float* panel, float* const* out, int64_t out_offset,
                                           int64_t valid, int64_t columns, Write write, int64_t ahead = 0, const RowSums& sums = {},
                                           bool fresh = false) {
  constexpr int64_t line = 16;                     // floats of a cache line
  const int64_t steps = ahead > 0 ? line : depth;  // between prefetches
  if (write == Write::plain && (lanes == 16 || taps * depth > 32))  // for short sums, as of the first layer, AVX2 gains nothing
    for (int r = 0; r < tile_rows && r < valid; r++)
      for (int64_t j = 0; j < columns; j += line) __builtin_prefetch(out[r] + out_offset + j, 1);
  vfloat sum[tile_rows][2] = {};
  for (int64_t t = 0; t < taps; t++) {
    const float* p[tile_rows];
#pragma GCC unroll 12
    for (int r = 0; r < tile_rows; r++) p[r] = rows[t * row_step + r] + offset;
    for (int64_t first = 0; first < depth; first += steps) {
      if (ahead > 0)
        for (int r = 0; r < tile_rows; r++) __builtin_prefetch(rows[t * row_step + ahead + r] + offset + first, 0, 2);
      const int64_t last = first + steps < depth ? first + steps : depth;
#pragma GCC unroll unrolled
      for (int64_t c = first; c < last; c++) {
        const vfloat b0 = load(panel), b1 = load(panel + lanes);
        panel += tile_columns;
#pragma GCC unroll 12
        for (int r = 0; r < tile_rows; r++) {
          const vfloat a = splat(p[r][c]);
          sum[r][0] = fma(a, b0, sum[r][0]);
          sum[r][1] = fma(a, b1, sum[r][1]);
        }
      }
    }
  }
  const int n0 = int(columns < lanes ? columns : lanes), n1 = int(columns - n0);
#pragma GCC unroll 12
  for (int r = 0; r < tile_rows; r++) {
    if (r >= valid) break;
    float* y = out[r] + out_offset;
    if (write == Write::add) {
      sum[r][0] += columns == tile_columns ? load(y) : load(y, n0);
      if (n1 > 0) sum[r][1] += columns == tile_columns ? load(y + lanes) : load(y + lanes, n1);
    }
    if (columns == tile_columns && write == Write::streaming) {
      store_streaming(y, sum[r][0]);
      store_streaming(y + lanes, sum[r][1]);
    } else if (columns == tile_columns) {
      store(y, sum[r][0]);
      store(y + lanes, sum[r][1]);
    } else {
      store(y, sum[r][0], n0);
      if (n1 > 0) store(y + lanes, sum[r][1], n1);
    }
  }
  if (!sums.origin) return;
  RowSums::Accumulator<2> row_sums(sums, out_offset, fresh);
  row_sums.start(0, sum[0][0]), row_sums.start(1, sum[0][1]);
#pragma GCC unroll 12
  for (int r = 0; r < tile_rows; r++) {
    if (r >= valid) break;
    row_sums.add(0, sum[r][0]), row_sums.add(1, sum[r][1]);
  }
  row_sums.end();
}

// Some lines of pixels: the channels of pixel k of line i begin at data[i line + k step].
struct Pixels {
  const float* data;
  int64_t line, step;

  Pixels from(int64_t channel) const { return {data + channel, line, step}; }
};

template <int rows, bool fetch>
__attribute__((noinline)) void outer_tile_of(float* total, Pixels a, Pixels b, Pixels next_a, Pixels next_b, int64_t lines,
                                             int64_t length, bool accumulate) {
  const auto one_line = [&](Pixels p) { return p.line == length * p.step; };
  if (one_line(a) && one_line(b) && one_line(next_a) && one_line(next_b)) length *= lines, lines = 1;
  vfloat sum[rows][2] = {};
  if (accumulate)
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
      sum[r][0] = load(total + r * tile_columns);
      sum[r][1] = load(total + r * tile_columns + lanes);
    }
  for (int64_t i = 0; i < lines; i++) {
    const float *left = a.data + i * a.line, *next_left = next_a.data + i * next_a.line;
    const float *right = b.data + i * b.line, *next_right = next_b.data + i * next_b.line;
#pragma GCC unroll unrolled
    for (int64_t k = 0; k < length; k++) {
      if constexpr (fetch) {
        __builtin_prefetch(next_left, 0, 2);
#pragma GCC unroll 2
        for (int j = 0; j < tile_columns; j += 16) __builtin_prefetch(next_right + j, 0, 2);
      }
      const vfloat b0 = load(right), b1 = load(right + lanes);
#pragma GCC unroll 12
      for (int r = 0; r < rows; r++) {
        const vfloat v = splat(left[r]);
        sum[r][0] = fma(v, b0, sum[r][0]);
        sum[r][1] = fma(v, b1, sum[r][1]);
      }
      left += a.step, right += b.step, next_left += next_a.step, next_right += next_b.step;
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < rows; r++) {
    store(total + r * tile_columns, sum[r][0]);
    store(total + r * tile_columns + lanes, sum[r][1]);
  }
}

// total[r][j] (+)= sum over `lines` lines of `length` pixels of a[r] b[j], for r < rows <= tile_rows and j < tile_columns. Meanwhile as many
// pixels of next_a and next_b are prefetched into the second-level cache, unless these are a and b themselves.
inline void outer_tile(int64_t rows, float* total, Pixels a, Pixels b, Pixels next_a, Pixels next_b, int64_t lines, int64_t length,
                       bool accumulate) {
  const bool fetch = next_a.data != a.data || next_b.data != b.data;
  with_rows(rows, [&]<int n>() {
    if (fetch) outer_tile_of<n, true>(total, a, b, next_a, next_b, lines, length, accumulate);
    else outer_tile_of<n, false>(total, a, b, next_a, next_b, lines, length, accumulate);
  });
}

}  // namespace turl
