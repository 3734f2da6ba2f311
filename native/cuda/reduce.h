// Sums and maxima over the threads of a warp or a block, always in the same order. Every lane (thread) gets the result.
#pragma once
#include "cuda/device.h"

namespace turl {

template <class T> __device__ inline T warp_sum(T value) {
#pragma unroll
  for (int bits = 16; bits > 0; bits /= 2) value += __shfl_xor_sync(full_warp, value, bits);
  return value;
}
template <class T> __device__ inline T warp_max(T value) {
#pragma unroll
  for (int bits = 16; bits > 0; bits /= 2) value = max(value, __shfl_xor_sync(full_warp, value, bits));
  return value;
}

// Sum of a[e] b[e] over e < size, by the lanes of a warp.
template <class A, class B> __device__ inline float warp_dot(const A* a, const B* b, int size) {
  float sum = 0;
  for (int e = threadIdx.x % 32; e < size; e += 32) sum += float(a[e]) * float(b[e]);
  return warp_sum(sum);
}

// For blocks of whole warps along x; all threads of the block call it.
template <class T, class F> __device__ inline T block_reduce(T value, T neutral, F reduce_warp) {
  TURL_SHARED(T, partial, [32]);
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  value = reduce_warp(value);
  __syncthreads();  // a previous call may still be reading `partial`
  if (lane == 0) partial[warp] = value;
  __syncthreads();
  return reduce_warp(lane < warps ? partial[lane] : neutral);
}
template <class T> __device__ inline T block_sum(T value) {
  return block_reduce(value, T(0), [](T v) { return warp_sum(v); });
}
template <class T> __device__ inline T block_max(T value) {
  return block_reduce(value, T(-INFINITY), [](T v) { return warp_max(v); });
}

}  // namespace turl
