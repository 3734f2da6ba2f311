// The l2 normalisation of one group of `size` elements and its gradient, by the lanes of one warp.
#pragma once
#include "cuda/reduce.h"

namespace turl {

// Sum of a[e] b[e].
template <class A, class B> __device__ inline float warp_dot(const A* a, const B* b, int size) {
  float sum = 0;
  for (int e = threadIdx.x % 32; e < size; e += 32) sum += float(a[e]) * float(b[e]);
  return warp_sum(sum);
}

// 1 / max(|x|, epsilon)
template <class T> __device__ inline float inverse_norm(const T* x, int size, float epsilon) {
  float norm = sqrtf(warp_dot(x, x, size));
  return 1.0f / (norm < epsilon ? epsilon : norm);  // a NaN stays a NaN
}

// dx = inverse (dy - x inverse^2 (x . dy)), without the second term where |x| is below epsilon; dx may be dy.
template <class D, class T>
__device__ inline void project_group(D* dx, const D* dy, const T* x, float inverse, int size, float epsilon) {
  float along = inverse * epsilon < 1 ? inverse * inverse * warp_dot(x, dy, size) : 0.0f;
  for (int e = threadIdx.x % 32; e < size; e += 32) dx[e] = D(inverse * (float(dy[e]) - along * float(x[e])));
}

}  // namespace turl
