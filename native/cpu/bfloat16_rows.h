// Rows of bfloat16 on processors with AVX-512: how they are interleaved in pairs, transposed, rounded and written.
#pragma once
#include "cpu/blocks.h"

#if defined(__AVX512BW__)

namespace turl {

// Two values side by side, as instructions that multiply pairs of bfloat16 want them.
struct Pair {
  bfloat16 first, second;
};
static_assert(sizeof(Pair) == 4);

// The mask of the first n of tile_columns values.
inline __mmask32 first_of(int64_t n) { return n >= tile_columns ? ~__mmask32(0) : (__mmask32(1) << n) - 1; }

// out[j] = (first[j], second[j]) for j < tile_columns, zeros where the mask has no bit; the upper half of the pairs goes to out + upper.
// Both rows are prefetched `ahead` values early, unless that is 0: the hardware does not always foresee strides.
inline void interleave(Pair* out, const bfloat16* first, const bfloat16* second, __mmask32 mask, int64_t ahead = 0,
                       int64_t upper = lanes) {
  alignas(64) static constexpr auto order = [] {
    struct { uint16_t low[32], high[32]; } o{};
    for (uint16_t i = 0; i < 16; i++)
      for (uint16_t half = 0; half < 2; half++) {
        o.low[2 * i + half] = uint16_t(i + 32 * half);
        o.high[2 * i + half] = uint16_t(16 + i + 32 * half);
      }
    return o;
  }();
  const __m512i a = _mm512_maskz_loadu_epi16(mask, first), b = _mm512_maskz_loadu_epi16(mask, second);
  if (ahead > 0) __builtin_prefetch(first + ahead), __builtin_prefetch(second + ahead);
  _mm512_storeu_si512(out, _mm512_permutex2var_epi16(a, _mm512_load_si512(order.low), b));
  _mm512_storeu_si512(out + upper, _mm512_permutex2var_epi16(a, _mm512_load_si512(order.high), b));
}

// Transposes up to 32 `columns` of 32 rows, from value `first` of each on: to[column][row], columns `row` values apart.
inline void transpose_block(bfloat16* to, int64_t row, const bfloat16* const* rows, int64_t first, int64_t columns) {
  alignas(64) Pair pairs[2][lanes][lanes];  // [half of the columns][pair of rows][column]
  for (int64_t r = 0; r < lanes; r++)
    interleave(pairs[0][r], rows[2 * r] + first, rows[2 * r + 1] + first, first_of(columns), 0, lanes * lanes);
  for (int64_t half = 0; half < 2; half++) {
    vfloat block[lanes];
    for (int64_t r = 0; r < lanes; r++) block[r] = load(reinterpret_cast<float*>(pairs[half][r]));
    transpose(block);
    for (int64_t c = 0; c < lanes; c++) store(reinterpret_cast<float*>(to + (half * lanes + c) * row), block[c]);
  }
}

// Two vectors of sums as one row of bfloat16.
inline __m512i round_row(vfloat low, vfloat high) {
  const __m512i half = _mm512_maskz_inserti64x4(255, __m512i{}, __m256i(round_lanes(low)), 0);
  return _mm512_maskz_inserti64x4(255, half, __m256i(round_lanes(high)), 1);
}

// Writes the first n values of a row. A whole row is a cache line; it is written with a streaming store if `streaming`.
inline void store_row(bfloat16* out, __m512i row, int64_t n, bool streaming) {
  if (n == tile_columns && streaming) _mm512_stream_si512(reinterpret_cast<__m512i*>(out), row);
  else _mm512_mask_storeu_epi16(out, first_of(n), row);
}

}  // namespace turl
#endif
