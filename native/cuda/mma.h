// Matrix products of a warp (mma.sync m16n8k16, bfloat16 in, float32 sums) and loads of their operands (ldmatrix).
//
// D [16, 8] += A [16, 16] B [16, 8]. Lane l, with g = l / 4 and t = l % 4, has these elements, of A and B two neighbours in each register:
//   A: a[0] = A[g][2t, 2t+1]   a[1] = A[g+8][2t, 2t+1]   a[2] = A[g][2t+8, 2t+9]   a[3] = A[g+8][2t+8, 2t+9]
//   B: b[0] = B[2t, 2t+1][g]   b[1] = B[2t+8, 2t+9][g]
//   D: d[0], d[1] = D[g][2t, 2t+1]   d[2], d[3] = D[g+8][2t, 2t+1]
// load_matrix_4 reads four 8x8 matrices of 16-bit elements from shared memory: lane l gives the address of row l % 8 of matrix
// l / 8 (16 bytes, aligned so), and r[i] receives M_i[g][2t, 2t+1]; load_matrix_4_transposed gives M_i[2t, 2t+1][g].
//   A from a row-major tile at (row, k):      address of tile[row + l % 16][k + l / 16 * 8]
//   B of two n-blocks, stored as [n][k]:      address of tile[n + l % 8 + l / 16 * 8][k + l / 8 % 2 * 8]; b of block 0 is r[0], r[1],
//                                             of block 1 r[2], r[3]
//   B of two n-blocks, stored as [k][n]:      transposed, address of tile[k + l % 16][n + l / 16 * 8]; the same registers
// store_matrix_4_transposed (stmatrix, sm_90) writes: r[i] has M_i[g][2t, 2t+1], and column l % 8 of matrix l / 8 goes to lane l's address.
#pragma once
#include "cuda/device.h"

#ifdef TURL_EMULATED
#include "emulated/mma.h"
#else

namespace turl {

__device__ inline uint32_t shared_address(const void* p) { return uint32_t(__cvta_generic_to_shared(p)); }

__device__ inline void mma_bfloat16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ inline void load_matrix_4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ inline void load_matrix_4_transposed(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
__device__ inline void store_matrix_4_transposed(void* column, const uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(shared_address(column)), "r"(r[0]), "r"(r[1]),
               "r"(r[2]), "r"(r[3])
               : "memory");
}
#endif

}  // namespace turl
#endif

namespace turl {

// Two floats as a register of two bfloat16, the first in the low half.
__device__ inline uint32_t pack_bfloat16(float low, float high) {
#ifdef __CUDA_ARCH__
  uint32_t both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
#else
  return uint32_t(bfloat16(high).bits) << 16 | bfloat16(low).bits;
#endif
}

// A register of two bfloat16 as two floats, the low half first.
__device__ inline void split_bfloat16(uint32_t pair, float (&to)[2]) {
  const uint32_t bits[2] = {pair << 16, pair & 0xffff0000u};
  memcpy(to, bits, sizeof(to));
}

}  // namespace turl
