// A 256 x 128 or 128 x 64 tile of a matrix product on the matrix units of sm_90a, bfloat16 operands with float32 sums. The warpgroups of a
// block have different roles (warp specialisation).
//
// The first two warpgroups (one for 128 x 64) copy the operands into a ring of four stages in shared memory, each 64 deep (cp.async, 16 bytes
// each; blocks of a tensor by the copy engine). An mbarrier tells when a stage is full; the copies of two stages are under way at a time. The
// last two warpgroups own half of the tile's rows each and multiply what is in a stage (wgmma, four steps of 16 for each block of 64 rows).
// Another mbarrier tells when a stage is free. While the products of one stage are under way, those of the next are started.
//
// For each depth of 1 a block reads (256 + 128) x 2 bytes for 256 x 128 multiply-adds: 85 operations a byte. A stage takes 48 KiB, all four
// 192 KiB: one block on a multiprocessor, whose L1 cache keeps some 60 KiB. Of the tile of 128 x 64, whose products are done sooner, a
// multiprocessor holds two blocks: while one starts or writes its results, the other multiplies.
#pragma once
#include "cuda/capability.h"
#include "cuda/mma_product.h"
#include "cuda/tensor_map.h"

namespace turl {

// A right operand that the copy engine brings: copy(to, side, k, barrier), called by one thread, starts the copy of 64 sides by 64 deep.
template <class F> struct InBlocks {
  F copy;
};
template <class F> InBlocks(F) -> InBlocks<F>;
template <class T> constexpr bool in_blocks = false;
template <class F> constexpr bool in_blocks<InBlocks<F>> = true;

template <int width> struct Hopper {
  static constexpr int rows = 2 * width, columns = width, depth = block_depth, stages = 4;
  static constexpr int row_blocks = rows / 2 / block_sides;  // of each warpgroup that multiplies
  static constexpr int copiers = row_blocks * warpgroup_threads, threads = copiers + 2 * warpgroup_threads;
  static constexpr int left_packs = rows / block_sides * block_packs, stage_packs = left_packs + columns / block_sides * block_packs;
  static constexpr int shared_bytes = stages * (stage_packs * 16 + 2 * int(sizeof(Mbarrier))) + int(sizeof(Mbarrier));
  static constexpr int blocks(bool) { return width == 64 ? 2 : 1; }
  static constexpr int row_warps = 1, users = 2 * warpgroup_threads, column_warps = users / 32;
  using Matrix = TensorMap;
  static Matrix matrix(const bfloat16* x, const int64_t (&sizes)[3], int rows) { return tensor_map(x, sizes, rows); }
  static constexpr int tap_multiple = 64;
  using Narrow = Hopper<64>;
  using Tile = Sums<Hopper, row_blocks, columns / 8>;

  // Only for the warpgroups that multiply: those that copy have no part of the tile.
  __device__ static int first_row(int m) {
    return (int(threadIdx.x) - copiers) / warpgroup_threads * (rows / 2) + m * 64 + int(threadIdx.x) / 32 % 4 * 16;
  }
  __device__ static int first_column() { return 0; }

  // As in Ampere. The ring is free memory when all products are done.
  __device__ static int user() { return int(threadIdx.x) - copiers; }
  __device__ static int column_warp() { return user() / 32; }
  __device__ static float* free_memory() { return dynamic_shared<float>(); }

  // One piece of an operand, laid out as warpgroup.h says. side() and depth() are for the threads that copy.
  template <Fast fast, int sides> struct Piece {
    static constexpr int packs = sides / block_sides * block_packs, per_thread = packs / copiers, side_packs = sides / 8;

    __device__ static int side(int i) {
      return fast == Fast::depth ? int(threadIdx.x) / 8 + i * (copiers / 8) : int(threadIdx.x) % side_packs * 8;
    }
    __device__ static int depth(int i) {
      return fast == Fast::depth ? int(threadIdx.x) % 8 * 8 : int(threadIdx.x) / side_packs + i * (copiers / side_packs);
    }
    __device__ static Pack<bfloat16>* at(Pack<bfloat16>* piece, int side, int depth) {
      return fast == Fast::depth ? piece + side * 8 + (depth / 8 ^ side % 8)
                                 : piece + side / 64 * block_packs + depth * 8 + (side % 64 / 8 ^ depth % 8);
    }
  };

  // The barrier at which users meet; it lies after those of the ring.
  __device__ static Mbarrier* meeting(Pack<bfloat16>* ring) { return reinterpret_cast<Mbarrier*>(ring + stages * stage_packs) + 2 * stages; }

#ifdef TURL_WARPGROUPS
  __device__ static void meet(int place) { meet_at(*meeting(dynamic_shared<Pack<bfloat16>>()), place); }

  // As Ampere::product, but only the two warpgroups that multiply call use(sums), a and b must use copy_async, and b may be InBlocks.
  template <Fast a_fast, Fast b_fast, class A, class B, class Use>
  __device__ static void product(int k0, int k1, A a, B b, Use use) {
    auto* const ring = dynamic_shared<Pack<bfloat16>>();
    auto* const full = reinterpret_cast<Mbarrier*>(ring + stages * stage_packs);
    auto* const empty = full + stages;
    if (threadIdx.x == 0) {
      for (int s = 0; s < stages; s++) {
        init_mbarrier(full[s], copiers / 32 + in_blocks<B>);
        init_mbarrier(empty[s], 2 * warpgroup_threads / 32);
      }
      init_mbarrier(*meeting(ring), users / 32);
      fence_mbarrier_init();
    }
    __syncthreads();
    const int steps = k1 > k0 ? ceil_div(k1 - k0, depth) : 0;
    if (threadIdx.x < copiers) {
      if constexpr (row_blocks == 2) give_registers<80>();
      fill<a_fast, b_fast>(ring, full, empty, k0, steps, a, b);
    } else {
      if constexpr (row_blocks == 2) take_registers<176>();  // 2 x 80 + 2 x 176 is what the block has, 4 x 128
      Tile sums = {};
      multiply<a_fast, b_fast>(sums, ring, full, empty, steps);
      use(sums);
    }
  }

 private:
  // The role of the warpgroups that copy. A thread fences its copies two steps later, when they have arrived; meanwhile the next copies are
  // under way.
  template <Fast a_fast, Fast b_fast, class A, class B>
  __device__ static void fill(Pack<bfloat16>* ring, Mbarrier* full, Mbarrier* empty, int k0, int steps, A a, B b) {
    using Left = Piece<a_fast, rows>;
    using Right = Piece<b_fast, columns>;
    constexpr int ahead = stages - 2;
    for (int step = 0; step < steps + ahead; step++) {
      if (step < steps) {
        if (step >= stages) wait_mbarrier(empty[step % stages], (step / stages - 1) % 2);
        Pack<bfloat16>* const left = ring + step % stages * stage_packs;
        Pack<bfloat16>* const right = left + left_packs;
        const int k = k0 + step * depth;
        if constexpr (in_blocks<B>)
          if (threadIdx.x == 0) {
            expect_bytes(full[step % stages], columns / block_sides * block_bytes);
            for (int n = 0; n < columns / block_sides; n++)
              b.copy(right + n * block_packs, n * block_sides, k, full[step % stages]);
          }
#pragma unroll
        for (int i = 0; i < Left::per_thread; i++)
          a(Left::at(left, Left::side(i), Left::depth(i)), i, Left::side(i), k + Left::depth(i));
        if constexpr (!in_blocks<B>)
#pragma unroll
          for (int i = 0; i < Right::per_thread; i++)
            b(Right::at(right, Right::side(i), Right::depth(i)), i, Right::side(i), k + Right::depth(i));
      }
      commit_copies();
      if (step < ahead) continue;
      wait_copies<ahead>();
      fence_async();
      __syncwarp();
      if (threadIdx.x % 32 == 0) arrive(full[(step - ahead) % stages]);
    }
    wait_copies<0>();
  }

  // The role of the warpgroups that multiply.
  template <Fast a_fast, Fast b_fast>
  __device__ static void multiply(Tile& sums, const Pack<bfloat16>* ring, Mbarrier* full, Mbarrier* empty, int steps) {
    constexpr bool a_by_side = a_fast == Fast::side, b_by_side = b_fast == Fast::side;
    const int first_block = (int(threadIdx.x) - copiers) / warpgroup_threads * row_blocks;
    const auto begin = [&](int step) {
      const Pack<bfloat16>* const left = ring + step % stages * stage_packs + first_block * block_packs;
      const Pack<bfloat16>* const right = ring + step % stages * stage_packs + left_packs;
      wait_mbarrier(full[step % stages], step / stages % 2);
      warpgroup_fence(sums.at);
#pragma unroll
      for (int k = 0; k < depth; k += 16)
#pragma unroll
        for (int m = 0; m < row_blocks; m++)
          warpgroup_mma<a_by_side, b_by_side>(sums.at[m], operand<a_by_side>(left + m * block_packs, k),
                                              operand<b_by_side>(right, k));
      warpgroup_commit();
    };
    if (steps == 0) return;
    begin(0);  // outside of the loop: else ptxas serialises the products (its warning C7515)
#pragma unroll 1
    for (int step = 1; step < steps; step++) {
      begin(step);
      warpgroup_wait<1>(sums.at);
      if (threadIdx.x % 32 == 0) arrive(empty[(step - 1) % stages]);
    }
    warpgroup_wait<0>(sums.at);
  }
#else
  __device__ static void meet(int) {}
  template <Fast a_fast, Fast b_fast, class A, class B, class Use> __device__ static void product(int, int, A, B, Use) {}
#endif
};

// Calls f with the units that suit a product of so many columns.
template <class F> void with_matrix_units(const Context& context, int64_t columns, F f) {
  if (!has_warpgroups(context)) f.template operator()<Ampere>();
  else if (columns <= 64) f.template operator()<Hopper<64>>();
  else f.template operator()<Hopper<128>>();
}

}  // namespace turl
