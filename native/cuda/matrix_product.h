// A 128 x 64 tile of a matrix product on matrix units, bfloat16 operands with float32 sums, by a block of 128 threads.
//
// The operands pass through shared memory 32 deep, three pieces in flight: while one is multiplied, the copies of the next two go on
// (cp.async, 16 bytes each). Four warps own 64 x 32 of the tile each, as 4 x 4 fragments of mma.m16n8k16: 16 products for every
// 6 ldmatrix. A piece is 8 KiB of the left operand and 4 KiB of the right, 36 KiB for all three; its packs of 8 elements are
// permuted (XOR) so that neither the copies nor ldmatrix meet bank conflicts.
#pragma once
#include "cuda/async.h"
#include "cuda/matrix.h"
#include "cuda/tile_product.h"

namespace turl {

constexpr int matrix_rows = 128, matrix_columns = 64, matrix_depth = 32, matrix_threads = 128, matrix_stages = 3;

// Where an element of an operand is, from some base; outside of the matrix any place that exists.
struct At {
  bool inside;
  int64_t offset;
};

// Eight elements of an operand into shared memory: the n-th is that of at(k + n), or zero outside. When `packed` they lie side by side
// from a multiple of 16 bytes, and one asynchronous copy fetches them; else they are read one by one.
template <bool packed, class F> __device__ inline void put(Pack<bfloat16>* to, const bfloat16* base, int k, F at) {
  if constexpr (packed) {
    const At from = at(k);
    copy_async(to, base + from.offset, from.inside);
  } else {
    Pack<bfloat16> pack;
#pragma unroll
    for (int n = 0; n < 8; n++) {
      const At from = at(k + n);
      pack[n] = from.inside ? base[from.offset] : bfloat16(0.0f);
    }
    *to = pack;
  }
}

// One piece of an operand in shared memory, `sides` rows or columns of the product by matrix_depth, in packs along `fast`.
template <Fast fast, int sides> struct OperandPiece {
  static constexpr int packs = sides * matrix_depth / 8, per_thread = packs / matrix_threads, side_packs = sides / 8;

  // Where in the piece the i-th pack that this thread copies begins.
  __device__ static int side(int i) {
    return fast == Fast::depth ? int(threadIdx.x) / 4 + i * (matrix_threads / 4) : int(threadIdx.x) % side_packs * 8;
  }
  __device__ static int depth(int i) {
    return fast == Fast::depth ? int(threadIdx.x) % 4 * 8 : int(threadIdx.x) / side_packs + i * (matrix_threads / side_packs);
  }
  __device__ static Pack<bfloat16>* at(Pack<bfloat16>* piece, int side, int depth) {
    return fast == Fast::depth ? piece + side * 4 + (depth / 8 ^ side / 2 % 4)
                               : piece + depth * side_packs + (side / 8 ^ depth % 8);
  }
};

// The sums of a thread: rows warp_row + 16 m + {g, g + 8}, columns warp_column + 8 n + {2t, 2t + 1} (g, t: see matrix.h).
struct MatrixSums {
  float at[4][4][4];

  __device__ static int warp_row() { return int(threadIdx.x) / 32 % 2 * 64; }
  __device__ static int warp_column() { return int(threadIdx.x) / 64 * 32; }
  // Where at[m][n][2 half] is; at[m][n][2 half + 1] is in the next column.
  __device__ static int row(int m, int half) { return warp_row() + m * 16 + half * 8 + int(threadIdx.x) % 32 / 4; }
  __device__ static int column(int n) { return warp_column() + n * 8 + int(threadIdx.x) % 4 * 2; }

  // f(row, column, sum, next): every pair of neighbouring columns, the first one even; f may change the sums.
  template <class F> __device__ void each_pair(F f) {
#pragma unroll
    for (int m = 0; m < 4; m++)
#pragma unroll
      for (int half = 0; half < 2; half++)
#pragma unroll
        for (int n = 0; n < 4; n++) f(row(m, half), column(n), at[m][n][half * 2], at[m][n][half * 2 + 1]);
  }

  // f(row, column, pack): every 8 neighbouring columns as bfloat16, from a multiple of 8. All threads call it: four lanes have a row's
  // 32 columns, each a pair of every 8, and exchange them so that each has 8.
  template <class F> __device__ void each_pack(F f) const {
    const int t = int(threadIdx.x) % 4;
#pragma unroll
    for (int m = 0; m < 4; m++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        uint32_t pairs[4];
#pragma unroll
        for (int n = 0; n < 4; n++) pairs[n] = pack_bfloat16(at[m][n][half * 2], at[m][n][half * 2 + 1]);
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
        f(row(m, half), warp_column() + t * 8, pack);
      }
  }
};

// The sums over k0 <= k < k1 of a(row, k) b(column, k). a(to, i, side, k) and b(to, i, side, k) put the pack that begins at this side and
// k into shared memory, with zeros outside of the matrix and beyond k1, by copy_async or by put. i, known at compile time, numbers the
// packs of a thread, whose side stays the same as k goes on. All threads call it.
template <Fast a_fast, Fast b_fast, class A, class B>
__device__ inline MatrixSums matrix_product(int k0, int k1, A a, B b) {
  using Left = OperandPiece<a_fast, matrix_rows>;
  using Right = OperandPiece<b_fast, matrix_columns>;
  TURL_SHARED(Pack<bfloat16>, left, [matrix_stages][Left::packs]);
  TURL_SHARED(Pack<bfloat16>, right, [matrix_stages][Right::packs]);
  int next = k0, free_stage = 0, stage = 0;
  const auto fetch = [&] {
    if (next < k1) {
#pragma unroll
      for (int i = 0; i < Left::per_thread; i++)
        a(Left::at(left[free_stage], Left::side(i), Left::depth(i)), i, Left::side(i), next + Left::depth(i));
#pragma unroll
      for (int i = 0; i < Right::per_thread; i++)
        b(Right::at(right[free_stage], Right::side(i), Right::depth(i)), i, Right::side(i), next + Right::depth(i));
    }
    commit_copies();  // also when there is nothing left, so that the count of groups stays the same
    next += matrix_depth;
    free_stage = free_stage == matrix_stages - 1 ? 0 : free_stage + 1;
  };
  const int lane = int(threadIdx.x) % 32, row = MatrixSums::warp_row(), column = MatrixSums::warp_column();
  MatrixSums sums = {};
  for (int ahead = 0; ahead < matrix_stages - 1; ahead++) fetch();
  for (int done = k0; done < k1; done += matrix_depth) {
    wait_copies<matrix_stages - 2>();
    __syncthreads();  // the piece is there for all, and all are done with the one before, whose place the next copies take
    fetch();
    Pack<bfloat16>* const x = left[stage];
    Pack<bfloat16>* const y = right[stage];
    stage = stage == matrix_stages - 1 ? 0 : stage + 1;
#pragma unroll
    for (int k = 0; k < matrix_depth; k += 16) {
      uint32_t p[4][4], q[2][4];
#pragma unroll
      for (int m = 0; m < 4; m++)
        if (a_fast == Fast::depth) load_matrix_4(p[m], Left::at(x, row + m * 16 + lane % 16, k + lane / 16 * 8));
        else load_matrix_4_transposed(p[m], Left::at(x, row + m * 16 + lane / 8 % 2 * 8, k + lane / 16 * 8 + lane % 8));
#pragma unroll
      for (int n = 0; n < 2; n++)
        if (b_fast == Fast::depth)
          load_matrix_4(q[n], Right::at(y, column + n * 16 + lane % 8 + lane / 16 * 8, k + lane / 8 % 2 * 8));
        else load_matrix_4_transposed(q[n], Right::at(y, column + n * 16 + lane / 16 * 8, k + lane % 16));
#pragma unroll
      for (int m = 0; m < 4; m++)
#pragma unroll
        for (int n = 0; n < 4; n++) mma_bfloat16(sums.at[m][n], p[m], q[n / 2][n % 2 * 2], q[n / 2][n % 2 * 2 + 1]);
    }
  }
  return sums;
}

// Writes two neighbours, as far as they are inside.
__device__ inline void put_pair(float* y, float first, float second, int64_t inside) {
  if (inside > 1 && reinterpret_cast<uintptr_t>(y) % 8 == 0) {
    *reinterpret_cast<float2*>(y) = {first, second};
    return;
  }
  if (inside > 0) y[0] = first;
  if (inside > 1) y[1] = second;
}

// Writes eight neighbours, as far as they are inside.
__device__ inline void put_pack(bfloat16* y, const Pack<bfloat16>& pack, int64_t inside) {
  if (inside >= 8 && reinterpret_cast<uintptr_t>(y) % 16 == 0) *reinterpret_cast<Pack<bfloat16>*>(y) = pack;
  else
    for (int i = 0; i < 8; i++)
      if (i < inside) y[i] = pack[i];
}

}  // namespace turl
