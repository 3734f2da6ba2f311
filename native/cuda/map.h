// Element-wise kernels: y[i] = f(x[i]...). Where the addresses allow it, the widest type is read or written 16 bytes at a time.
#pragma once
#include <algorithm>
#include <tuple>
#include "cuda/device.h"

namespace turl {

constexpr int map_threads = 256, map_groups = 2;

// A thread has two groups of elements, and reads both before it writes the first.
template <int width, class F, class Y, class... X> __global__ void map_kernel(F f, int64_t n, Y* y, const X*... x) {
  begin_kernel();
  const int64_t first = (int64_t(blockIdx.x) * map_groups * map_threads + threadIdx.x) * width, next = map_threads * width;
  std::tuple<Group<X, width>...> in[map_groups];
#pragma unroll
  for (int g = 0; g < map_groups; g++)
    if (const int64_t at = first + g * next; at + width <= n) in[g] = {*reinterpret_cast<const Group<X, width>*>(x + at)...};
#pragma unroll
  for (int g = 0; g < map_groups; g++) {
    const int64_t at = first + g * next;
    if (at + width <= n) {
      Group<Y, width> out;
      std::apply(
          [&](const Group<X, width>&... group) {
#pragma unroll
            for (int j = 0; j < width; j++) out.v[j] = Y(f(group.v[j]...));
          },
          in[g]);
      *reinterpret_cast<Group<Y, width>*>(y + at) = out;
    } else {
      for (int64_t i = at; i < n; i++) y[i] = Y(f(x[i]...));
    }
  }
}

// A copy, or a cast where y has another type.
struct Identity {
  template <class T> __device__ T operator()(T x) const { return x; }
};

// y may be one of x.
template <class F, class Y, class... X> void map(Context& context, F f, int64_t n, Y* y, const X*... x) {
  constexpr int width = 16 / int(std::max({sizeof(Y), sizeof(X)...}));
  const auto run = [&]<int w>() {
    launch(context, map_kernel<w, F, Y, X...>, blocks_for(n, map_threads * map_groups * w), map_threads, 0, f, n, y, x...);
  };
  if (packs<uint8_t>(0, y, x...)) run.template operator()<width>();
  else run.template operator()<1>();
}

}  // namespace turl
