// A 64 x 64 tile of a matrix product in float32, by a block of 256 threads. Pieces of both operands, 16 deep, pass through shared memory;
// each thread has 4 x 4 sums. Operands are functions, so that they can be converted or normalised as they are read.
#pragma once
#include "cuda/device.h"

namespace turl {

constexpr int tile_side = 64, tile_depth = 16, tile_threads = 256;

// Which index of an operand is contiguous in memory: neighbouring threads read along it.
enum class Fast { depth, side };

template <Fast fast, class F> __device__ inline void load_tile(float (*tile)[tile_side + 4], int64_t k0, int64_t k1, F value) {
  for (int i = threadIdx.x; i < tile_side * tile_depth; i += tile_threads) {
    int k = fast == Fast::depth ? i % tile_depth : i / tile_side;
    int side = fast == Fast::depth ? i / tile_depth : i % tile_side;
    tile[k][side] = k0 + k < k1 ? value(side, k0 + k) : 0.0f;
  }
}

// sums[i][j] += sum over k0 <= k < k1 of a(row, k) b(column, k), row = 4 (t / 16) + i, column = 4 (t % 16) + j of thread t.
// a and b return 0 outside their matrices. All threads of the block call it.
template <Fast a_fast, Fast b_fast, class A, class B>
__device__ inline void tile_product(float (&sums)[4][4], int64_t k0, int64_t k1, A a, B b) {
  TURL_SHARED(float, left, [tile_depth][tile_side + 4]);
  TURL_SHARED(float, right, [tile_depth][tile_side + 4]);
  int row = threadIdx.x / 16 * 4, column = threadIdx.x % 16 * 4;
  for (int64_t k = k0; k < k1; k += tile_depth) {
    __syncthreads();  // the previous piece may still be read
    load_tile<a_fast>(left, k, k1, a);
    load_tile<b_fast>(right, k, k1, b);
    __syncthreads();
#pragma unroll
    for (int depth = 0; depth < tile_depth; depth++) {
      float x[4], y[4];
#pragma unroll
      for (int i = 0; i < 4; i++) x[i] = left[depth][row + i], y[i] = right[depth][column + i];
#pragma unroll
      for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) sums[i][j] = fmaf(x[i], y[j], sums[i][j]);
    }
  }
}

}  // namespace turl
