// The l2 normalisation of groups of neighbouring elements and its gradient. A team is some lanes of one warp; it has one group, of which each
// lane takes `width` elements at a time. So a warp reads neighbouring groups together. What is read twice is in a cache the second time.
#pragma once
#include "cuda/reduce.h"

namespace turl {

constexpr int team_threads = 256;

template <int width> struct Team {
  int size, shift = 0;  // elements of a group; 2^shift lanes

  explicit Team(int64_t size) : size(int(size)) {
    while (shift < 5 && width << shift < this->size) shift++;
  }
  dim3 blocks(int64_t groups) const { return blocks_for(groups << shift, team_threads); }

  __device__ int64_t group() const { return (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) >> shift; }
  // Where the group of this thread begins. A team past the last of `total` groups has no elements, but still takes part in warp sums.
  __device__ int64_t begin(int64_t total) {
    const int64_t at = group() * size;
    if (group() >= total) size = 0;
    return at;
  }
  __device__ int lane() const { return int(threadIdx.x) & ((1 << shift) - 1); }

  // f(e): the elements from e on, `width` of them, for each share of this lane.
  template <class F> __device__ void each(F f) const {
    for (int e = lane() * width; e < size; e += width << shift) f(e);
  }
  // Sum of a[e] b[e], the same in each lane.
  template <class A, class B> __device__ float dot(const A* a, const B* b) const {
    float sum = 0;
    each([&](int e) {
      const auto x = *reinterpret_cast<const Group<A, width>*>(a + e);
      const auto y = *reinterpret_cast<const Group<B, width>*>(b + e);
#pragma unroll
      for (int n = 0; n < width; n++) sum += float(x.v[n]) * float(y.v[n]);
    });
    for (int bit = 1 << shift >> 1; bit > 0; bit >>= 1) sum += __shfl_xor_sync(full_warp, sum, bit);
    return sum;
  }
  // 1 / max(|x|, epsilon)
  template <class T> __device__ float inverse_norm(const T* x, float epsilon) const {
    const float norm = sqrtf(dot(x, x));
    return 1.0f / (norm < epsilon ? epsilon : norm);  // a NaN stays a NaN
  }
  // dx = inverse (dy - x inverse^2 (x . dy)), without the second term where |x| is below epsilon; dx may be dy.
  template <class D, class T> __device__ void project(D* dx, const D* dy, const T* x, float inverse, float epsilon) const {
    const float sum = dot(x, dy), projection = inverse * epsilon < 1 ? inverse * inverse * sum : 0.0f;
    each([&](int e) {
      const auto from = *reinterpret_cast<const Group<D, width>*>(dy + e);
      const auto y = *reinterpret_cast<const Group<T, width>*>(x + e);
      Group<D, width> to;
#pragma unroll
      for (int n = 0; n < width; n++) to.v[n] = D(inverse * (float(from.v[n]) - projection * float(y.v[n])));
      *reinterpret_cast<Group<D, width>*>(dx + e) = to;
    });
  }
};

// Calls f(team) with a team for groups of `size`, which takes four elements at a time if the arrays allow it.
template <class F, class... A> void with_team(int64_t size, F f, const A*... arrays) {
  if (packs<float>(size, arrays...)) f(Team<4>(size));
  else f(Team<1>(size));
}

}  // namespace turl
