// Matrix products of a warpgroup (wgmma of sm_90a, bfloat16 in, float32 sums). A warpgroup is 128 threads whose first is a multiple of 128.
// It starts products of operands in shared memory, which proceed while its threads go on.
//
//   warpgroup_fence(d);                           before the first product of a group: makes sure that its sums are in their registers
//   warpgroup_mma<a_by_side, b_by_side>(d, a, b); D [64, n] += A [64, 16] B [16, n], n = 64, 128, 192 or 256, a and b from operand()
//   warpgroup_commit();                           closes the group
//   warpgroup_wait<n>(d);                         waits until at most the n latest groups are under way; only then the sums of the others
//                                                 may be read, and their operands overwritten
//
// In a block whose warpgroups have different roles, all threads of a warpgroup may also call
//   give_registers<n>(); take_registers<n>();     to go on with n registers each, fewer or more than the kernel has; n a multiple of 8
//
// D: warp w of the four has rows 16 w to 16 w + 15, and d[j] is its part of columns 8 j to 8 j + 7, as D in mma.h.
// Operands: a row of A or a column of B is called a side; the inner dimension is the depth. An operand lies in blocks of 64 sides by 64 deep,
// each 8 KiB from a multiple of 1 KiB on. Blocks follow one another, or lie as operand() is told. A block is 64 rows of 128 bytes: a row
// has one side and runs along the depth, or, `by_side`, has one depth and runs along the sides. In row r, pack number p of 8 elements is at
// place p ^ r % 8, so that there are no bank conflicts in either direction. What ordinary stores or copy_async wrote needs fence_async()
// before a product reads it.
#pragma once
#include "cuda/async.h"
#include "cuda/mma.h"

// Defined where kernels for warpgroups can be compiled: not in the pass for sm_80, in which they are empty.
#if defined(TURL_EMULATED) || !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define TURL_WARPGROUPS
#endif

namespace turl {

constexpr int warpgroup_threads = 128, block_sides = 64, block_depth = 64, block_packs = block_sides * block_depth / 8;

}  // namespace turl

#ifdef TURL_EMULATED
#include "emulated/warpgroup.h"
#elif defined(TURL_WARPGROUPS)

namespace turl {

// Keeps the compiler from moving accesses to the sums across this place: it does not know that products under way change them.
template <int n> __device__ inline void hold(float (&d)[n]) {
#pragma unroll
  for (int i = 0; i < n; i++) asm volatile("" : "+f"(d[i])::"memory");
}
template <class T, int n> __device__ inline void hold(T (&d)[n]) {
#pragma unroll
  for (int i = 0; i < n; i++) hold(d[i]);
}

template <class D> __device__ inline void warpgroup_fence(D& d) {
  hold(d);
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
template <int n> __device__ inline void give_registers() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(n)); }
template <int n> __device__ inline void take_registers() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(n)); }

__device__ inline void warpgroup_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int n, class D> __device__ inline void warpgroup_wait(D& d) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(n) : "memory");
  hold(d);
}

#define TURL_SUMS_4(j) "+f"(d[j][0]), "+f"(d[j][1]), "+f"(d[j][2]), "+f"(d[j][3])
#define TURL_SUMS_16(j) TURL_SUMS_4(j), TURL_SUMS_4(j + 1), TURL_SUMS_4(j + 2), TURL_SUMS_4(j + 3)
#define TURL_SUMS_32(j) TURL_SUMS_16(j), TURL_SUMS_16(j + 4)
#define TURL_NAMES_32                                                                                                  \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24," \
  "%25, %26, %27, %28, %29, %30, %31"
#define TURL_NAMES_64                                                                                                    \
  TURL_NAMES_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, " \
  "%52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define TURL_NAMES_96                                                                                                    \
  TURL_NAMES_64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, " \
  "%84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define TURL_NAMES_128                                                                                                         \
  TURL_NAMES_96 ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, " \
  "%115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
template <bool a_by_side, bool b_by_side> __device__ inline void warpgroup_mma(float (&d)[8][4], uint64_t a, uint64_t b) {
  asm volatile(
      "{ .reg .pred add; setp.ne.b32 add, 1, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" TURL_NAMES_32 "}, %32, %33, add, 1, 1, %34, %35; }"
      : TURL_SUMS_32(0)
      : "l"(a), "l"(b), "n"(int(a_by_side)), "n"(int(b_by_side)));
}
template <bool a_by_side, bool b_by_side> __device__ inline void warpgroup_mma(float (&d)[16][4], uint64_t a, uint64_t b) {
  asm volatile(
      "{ .reg .pred add; setp.ne.b32 add, 1, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" TURL_NAMES_64 "}, %64, %65, add, 1, 1, %66, %67; }"
      : TURL_SUMS_32(0), TURL_SUMS_32(8)
      : "l"(a), "l"(b), "n"(int(a_by_side)), "n"(int(b_by_side)));
}
template <bool a_by_side, bool b_by_side> __device__ inline void warpgroup_mma(float (&d)[24][4], uint64_t a, uint64_t b) {
  asm volatile(
      "{ .reg .pred add; setp.ne.b32 add, 1, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 {" TURL_NAMES_96 "}, %96, %97, add, 1, 1, %98, %99; }"
      : TURL_SUMS_32(0), TURL_SUMS_32(8), TURL_SUMS_32(16)
      : "l"(a), "l"(b), "n"(int(a_by_side)), "n"(int(b_by_side)));
}
template <bool a_by_side, bool b_by_side> __device__ inline void warpgroup_mma(float (&d)[32][4], uint64_t a, uint64_t b) {
  asm volatile(
      "{ .reg .pred add; setp.ne.b32 add, 1, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {" TURL_NAMES_128 "}, %128, %129, add, 1, 1, %130, %131; }"
      : TURL_SUMS_32(0), TURL_SUMS_32(8), TURL_SUMS_32(16), TURL_SUMS_32(24)
      : "l"(a), "l"(b), "n"(int(a_by_side)), "n"(int(b_by_side)));
}
#undef TURL_SUMS_4
#undef TURL_SUMS_16
#undef TURL_SUMS_32
#undef TURL_NAMES_32
#undef TURL_NAMES_64
#undef TURL_NAMES_96
#undef TURL_NAMES_128

}  // namespace turl
#endif

#ifdef TURL_WARPGROUPS
namespace turl {

// All warps that the barrier waits for meet here, first with place 0, then with 1, then with 0 again.
__device__ inline void meet_at(Mbarrier& barrier, int place) {
  __syncwarp();
  if (threadIdx.x % 32 == 0) arrive(barrier);
  wait_mbarrier(barrier, place);
}

// Runs `steps` groups of products such that one proceeds while the next is started. begin() starts a group and returns what it reads, and
// done() is called with that when it has been read.
template <class D, class Begin, class Done> __device__ inline void groups_in_turn(D& sums, int64_t steps, Begin begin, Done done) {
  if (steps <= 0) return;
  auto before = begin();  // outside of the loop: else ptxas serialises the products (its warning C7515)
#pragma unroll 1
  for (int64_t step = 1; step < steps; step++) {
    const auto now = begin();
    warpgroup_wait<1>(sums);
    done(before);
    before = now;
  }
  warpgroup_wait<0>(sums);
  done(before);
}

// The matrix descriptor of an operand that begins at depth k (a multiple of 16) of the given blocks (PTX ISA, "Asynchronous Warpgroup Level
// Matrix Shared Memory Layout"). Its bits are, in units of 16 bytes, the address, the distance to the next block, and the distance from 8
// rows to the next 8; and that packs are permuted within 128 bytes. `next` is the distance to the next block. Blocks may begin at any row of
// 128 bytes and may overlap, since packs are permuted by their address.
template <bool by_side> __device__ inline uint64_t operand(const Pack<bfloat16>* blocks, int k, int next = block_packs) {
  const uint32_t address = shared_address(blocks) + uint32_t(by_side ? k * 128 : k * 2);
  return uint64_t(address >> 4) | uint64_t(next) << 16 | uint64_t(64) << 32 | uint64_t(1) << 62;
}

}  // namespace turl
#endif
