// What both ways to compute a tile of a matrix product on matrix units (mma_product.h, warpgroup_product.h) share: how operands come into
// shared memory, how the sums of a tile lie in the registers of its threads, and how they are written.
#pragma once
#include "cuda/async.h"
#include "cuda/mma.h"
#include "cuda/tile_product.h"

namespace turl {

// Where an element of an operand is. Outside of the matrix the address may be anything; nothing is read there.
struct At {
  bool inside;
  const bfloat16* from;
};

// Puts eight elements of an operand into shared memory: element n is that of at(k + n), or zero outside. If `packed`, they lie side by side
// from a multiple of 16 bytes on, and one asynchronous copy fetches them, through the L1 cache if they are `reused`; else they are read one
// by one.
template <bool packed, bool reused = false, class F> __device__ inline void put(Pack<bfloat16>* to, int k, F at) {
  if constexpr (packed) {
    const At one = at(k);
    if constexpr (reused) copy_async_cached(to, one.from, one.inside);
    else copy_async(to, one.from, one.inside);
  } else {
    Pack<bfloat16> pack;
#pragma unroll
    for (int n = 0; n < 8; n++) {
      const At one = at(k + n);
      pack[n] = one.inside ? *one.from : bfloat16(0.0f);
    }
    *to = pack;
  }
}

// A tile's sums, of which each thread has these: rows Units::first_row(m) + {g, g + 8}, columns Units::first_column() + 8 n + {2t, 2t + 1}
// (g and t as in mma.h).
template <class Units, int row_blocks, int column_blocks> struct Sums {
  static constexpr int rows = row_blocks, columns = column_blocks;
  float at[rows][columns][4];

  // The row and column of at[m][n][2 half]; at[m][n][2 half + 1] is in the next column.
  __device__ static int row(int m, int half) { return Units::first_row(m) + half * 8 + int(threadIdx.x) % 32 / 4; }
  __device__ static int column(int n) { return Units::first_column() + n * 8 + int(threadIdx.x) % 4 * 2; }

  // f(m, half) for every row of which this thread has a part.
  template <class F> __device__ static void each_row(F f) {
#pragma unroll
    for (int m = 0; m < rows; m++)
#pragma unroll
      for (int half = 0; half < 2; half++) f(m, half);
  }

  // f(column, sum, next) for every pair of neighbouring columns of such a row, the first column even; f may change the sums.
  template <class F> __device__ void pairs(int m, int half, F f) {
#pragma unroll
    for (int n = 0; n < columns; n++) f(column(n), at[m][n][half * 2], at[m][n][half * 2 + 1]);
  }

  // f(column, pack) for every 8 neighbouring columns of such a row as bfloat16; `column` is a multiple of 8. All lanes must call it: four
  // lanes share a row, each with a pair of every 8 columns, and exchange the pairs of 32 columns so that each gets 8 neighbours.
  template <class F> __device__ void packs(int m, int half, F f) const {
    const int t = int(threadIdx.x) % 4;
#pragma unroll
    for (int first = 0; first < columns; first += 4) {
      uint32_t pairs[4];
#pragma unroll
      for (int n = 0; n < 4; n++) pairs[n] = pack_bfloat16(at[m][first + n][half * 2], at[m][first + n][half * 2 + 1]);
#pragma unroll
      for (int bit = 1; bit < 4; bit *= 2)
#pragma unroll
        for (int n = 0; n < 4; n++)
          if (!(n & bit)) {
            const bool upper = (t & bit) != 0;
            const uint32_t other = __shfl_xor_sync(full_warp, upper ? pairs[n] : pairs[n | bit], bit);
            (upper ? pairs[n] : pairs[n | bit]) = other;
          }
      Pack<bfloat16> pack;
      memcpy(&pack, pairs, sizeof(pack));
      f(Units::first_column() + (first + t) * 8, pack);
    }
  }

  // f(column, sum, square) for every column: the sum of its values, rounded to bfloat16, and of their squares, over those rows of the warp
  // for which counts(m, half). All lanes must call it: eight lanes share a column, and exchange the sums of eight columns so that each gets
  // one.
  template <class C, class F> __device__ void column_sums(C counts, F f) const {
    const int g = int(threadIdx.x) % 32 / 4;
#pragma unroll
    for (int first = 0; first < columns; first += 4) {
      float part[2][8] = {};
      each_row([&](int m, int half) {
        if (!counts(m, half)) return;
#pragma unroll
        for (int n = 0; n < 4; n++) {
          float values[2];
          split_bfloat16(pack_bfloat16(at[m][first + n][half * 2], at[m][first + n][half * 2 + 1]), values);
#pragma unroll
          for (int k = 0; k < 2; k++) part[0][2 * n + k] += values[k], part[1][2 * n + k] += values[k] * values[k];
        }
      });
#pragma unroll
      for (int bit = 1; bit < 8; bit *= 2)
#pragma unroll
        for (int n = 0; n < 8; n += 2 * bit)
#pragma unroll
          for (int s = 0; s < 2; s++) {
            const bool upper = (g & bit) != 0;
            const float other = upper ? part[s][n] : part[s][n | bit];
            part[s][n] = (upper ? part[s][n | bit] : part[s][n]) + __shfl_xor_sync(full_warp, other, 4 * bit);
          }
      f(column(first + g / 2) + g % 2, part[0][0], part[1][0]);
    }
  }
};

// Writes two neighbours, or as many as are inside.
__device__ inline void put_pair(float* y, float first, float second, int64_t inside) {
  if (inside > 1 && reinterpret_cast<uintptr_t>(y) % 8 == 0) {
    *reinterpret_cast<float2*>(y) = {first, second};
    return;
  }
  if (inside > 0) y[0] = first;
  if (inside > 1) y[1] = second;
}

// Writes eight neighbours, or as many as are inside.
__device__ inline void put_pack(bfloat16* y, const Pack<bfloat16>& pack, int64_t inside) {
  if (inside >= 8 && reinterpret_cast<uintptr_t>(y) % 16 == 0) *reinterpret_cast<Pack<bfloat16>*>(y) = pack;
  else
    for (int i = 0; i < 8; i++)
      if (i < inside) y[i] = pack[i];
}

}  // namespace turl
