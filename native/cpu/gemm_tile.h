// The register tiles behind convolution and matrix product: tile_rows x tile_columns sums stay in registers while the inner
// dimension runs. One source for all instruction sets: 6 x 16 with AVX2 (12 accumulators of 16 registers), 12 x 32 with
// AVX-512 (24 of 32), 6 x 8 without.
#pragma once
#include "cpu/blocks.h"

namespace turl {

// Length of the inner dimension for which a panel of tile_columns columns (20 KiB; AVX-512: 32 KiB) stays in the first-level
// cache while the tiles of a block pass by.
constexpr int64_t panel_depth = lanes == 16 ? 256 : 320;

// out[r][j] (+)= sum over t < taps, c < depth of rows[t row_step + r][offset + c] panel[t depth + c][j], for r < valid and
// j < columns. All tile_rows pointers of a tap must be readable.
__attribute__((noinline)) inline void tile(const float* const* rows, int64_t row_step, int64_t taps, int64_t offset,
                                           int64_t depth, const float* panel, float* const* out, int64_t out_offset,
                                           int64_t valid, int64_t columns, bool accumulate) {
  vfloat sum[tile_rows][2] = {};
  for (int64_t t = 0; t < taps; t++) {
    const float* p[tile_rows];
#pragma GCC unroll 12
    for (int r = 0; r < tile_rows; r++) p[r] = rows[t * row_step + r] + offset;
    for (int64_t c = 0; c < depth; c++) {
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
  const int n0 = int(columns < lanes ? columns : lanes), n1 = int(columns - n0);
#pragma GCC unroll 12
  for (int r = 0; r < tile_rows; r++) {
    if (r >= valid) break;
    float* y = out[r] + out_offset;
    if (columns == tile_columns) {
      store(y, accumulate ? load(y) + sum[r][0] : sum[r][0]);
      store(y + lanes, accumulate ? load(y + lanes) + sum[r][1] : sum[r][1]);
    } else {
      store(y, accumulate ? load(y, n0) + sum[r][0] : sum[r][0], n0);
      if (n1 > 0) store(y + lanes, accumulate ? load(y + lanes, n1) + sum[r][1] : sum[r][1], n1);
    }
  }
}

// total[r][j] (+)= sum over i < lines, k < length of a[i length + k][r] b[i b_line + k b_step + j]: products of columns of two
// packed panels, a of tile_rows and b of tile_columns values a row.
__attribute__((noinline)) inline void outer_tile(float* total, const float* a, const float* b, int64_t lines, int64_t length,
                                                 int64_t b_line, int64_t b_step, bool accumulate) {
  vfloat sum[tile_rows][2] = {};
  if (accumulate)
#pragma GCC unroll 12
    for (int r = 0; r < tile_rows; r++) {
      sum[r][0] = load(total + r * tile_columns);
      sum[r][1] = load(total + r * tile_columns + lanes);
    }
  for (int64_t i = 0; i < lines; i++, b += b_line) {
    const float* p = b;
    for (int64_t k = 0; k < length; k++, a += tile_rows, p += b_step) {
      const vfloat b0 = load(p), b1 = load(p + lanes);
#pragma GCC unroll 12
      for (int r = 0; r < tile_rows; r++) {
        const vfloat v = splat(a[r]);
        sum[r][0] = fma(v, b0, sum[r][0]);
        sum[r][1] = fma(v, b1, sum[r][1]);
      }
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < tile_rows; r++) {
    store(total + r * tile_columns, sum[r][0]);
    store(total + r * tile_columns + lanes, sum[r][1]);
  }
}

}  // namespace turl
