// A 128 x 64 tile of a matrix product on matrix units, bfloat16 operands with float32 sums, by a block of 128 threads; from sm_80 on.
//
// The operands pass through shared memory in pieces 32 deep, of which three are there: while one is multiplied, the next two are copied
// (cp.async, 16 bytes each). Each of four warps owns 64 x 32 of the tile, as 4 x 4 fragments of mma.m16n8k16: 16 products for every
// 6 ldmatrix. A piece is 8 KiB of the left operand and 4 KiB of the right, 36 KiB for all three; its packs of 8 elements are
// permuted (XOR) so that neither the copies nor ldmatrix meet bank conflicts.
#pragma once
#include "cuda/matrix_tile.h"

namespace turl {

struct Ampere {
  static constexpr int rows = 128, columns = 64, depth = 32, threads = 128, stages = 3, shared_bytes = 0;
  static constexpr int blocks(bool packed) { return packed ? 3 : 2; }  // blocks that a multiprocessor should hold
  // Warps that share a row of the tile; warps that share a column; threads that have sums.
  static constexpr int row_warps = 2, column_warps = 2, users = threads;
  using Matrix = const bfloat16*;  // how a kernel receives its right operand
  static Matrix matrix(const bfloat16* x, const int64_t (&)[3], int) { return x; }
  static constexpr int tap_multiple = 1;  // a convolution's channels are padded to such a multiple for each tap (conv_matrix.h)
  using Narrow = Ampere;                  // a smaller tile, for kernels that need registers for more than sums
  using Tile = Sums<Ampere, 4, 4>;

  // For the threads that have sums (`users`): the number of this thread, which of the warps that share a column it is in, a barrier for all
  // of them (calls alternate between place 0 and 1), and memory that they may use after the first meeting.
  __device__ static int user() { return int(threadIdx.x); }
  __device__ static int column_warp() { return int(threadIdx.x) / 32 % 2; }
  __device__ static void meet(int) { __syncthreads(); }
  __device__ static float* free_memory() {
    TURL_SHARED(float, memory, [column_warps * 2 * columns]);
    return memory;
  }

  __device__ static int first_row(int m) { return int(threadIdx.x) / 32 % 2 * 64 + m * 16; }
  __device__ static int first_column() { return int(threadIdx.x) / 64 * 32; }

  // One piece of an operand in shared memory: `sides` rows or columns of the product by depth, in packs along `fast`.
  template <Fast fast, int sides> struct Piece {
    static constexpr int packs = sides * Ampere::depth / 8, per_thread = packs / threads, side_packs = sides / 8;

    // Side and depth at which the i-th pack that this thread copies begins; and the place of a pack in the piece.
    __device__ static int side(int i) {
      return fast == Fast::depth ? int(threadIdx.x) / 4 + i * (threads / 4) : int(threadIdx.x) % side_packs * 8;
    }
    __device__ static int depth(int i) {
      return fast == Fast::depth ? int(threadIdx.x) % 4 * 8 : int(threadIdx.x) / side_packs + i * (threads / side_packs);
    }
    __device__ static Pack<bfloat16>* at(Pack<bfloat16>* piece, int side, int depth) {
      return fast == Fast::depth ? piece + side * 4 + (depth / 8 ^ side / 2 % 4)
                                 : piece + depth * side_packs + (side / 8 ^ depth % 8);
    }
  };

  // Computes the sums over k0 <= k < k1 of a(row, k) b(column, k), then calls use(sums). a(to, i, side, k) and b(to, i, side, k) put the pack
  // that begins at this side and k into shared memory, by copy_async or by put, with zeros outside of the matrix and beyond k1. i numbers the
  // packs of a thread and is known at compile time; the side of pack i is the same for all k. All threads must call it.
  template <Fast a_fast, Fast b_fast, class A, class B, class Use>
  __device__ static void product(int k0, int k1, A a, B b, Use use) {
    using Left = Piece<a_fast, rows>;
    using Right = Piece<b_fast, columns>;
    TURL_SHARED(Pack<bfloat16>, left, [stages][Left::packs]);
    TURL_SHARED(Pack<bfloat16>, right, [stages][Right::packs]);
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
      next += depth;
      free_stage = free_stage == stages - 1 ? 0 : free_stage + 1;
    };
    const int lane = int(threadIdx.x) % 32, row = first_row(0), column = first_column();
    Tile sums = {};
    for (int ahead = 0; ahead < stages - 1; ahead++) fetch();
    for (int done = k0; done < k1; done += depth) {
      wait_copies<stages - 2>();
      __syncthreads();  // the piece is there for all, and all are done with the one before, whose place the next copies take
      fetch();
      Pack<bfloat16>* const x = left[stage];
      Pack<bfloat16>* const y = right[stage];
      stage = stage == stages - 1 ? 0 : stage + 1;
#pragma unroll
      for (int k = 0; k < depth; k += 16) {
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
    use(sums);
  }
};

}  // namespace turl
