// Adds up a sum whose terms were divided among blocks: each left its part in memory as float32. The order of addition depends on sizes only.
#pragma once
#include <algorithm>
#include "cuda/device.h"

namespace turl {

constexpr int part_columns = 32, part_lines = 8;

// total[some][i] = the sum of partial[part][i] over `parts` of all the parts, from some * parts on. Grid [groups of `width` of n elements,
// totals]. A line of the block takes every eighth part; the sums of the lines are added in order.
template <class T, int width>
__global__ void add_parts_kernel(T* total, const float* partial, int parts, int all, int64_t n) {
  begin_kernel();
  using G = Group<float, width>;
  TURL_SHARED(G, sums, [part_lines][part_columns]);
  const int64_t i = (int64_t(blockIdx.x) * part_columns + threadIdx.x) * width;
  G sum = {};
  partial += int64_t(blockIdx.y) * parts * n, total += int64_t(blockIdx.y) * n, parts = min(parts, all - int(blockIdx.y) * parts);
  if (i < n)
#pragma unroll 4
    for (int part = int(threadIdx.y); part < parts; part += part_lines) {
      const G group = *reinterpret_cast<const G*>(partial + part * n + i);
#pragma unroll
      for (int j = 0; j < width; j++) sum.v[j] += group.v[j];
    }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || i >= n) return;
#pragma unroll
  for (int line = 1; line < part_lines; line++)
#pragma unroll
    for (int j = 0; j < width; j++) sum.v[j] += sums[line][threadIdx.x].v[j];
#pragma unroll
  for (int j = 0; j < width; j++) total[i + j] = T(sum.v[j]);
}

// As above: totals [ceil(all / parts)][n].
template <class T> void add_some_parts(Context& context, T* totals, const float* partial, int64_t parts, int64_t all, int64_t n) {
  const unsigned somes = unsigned(std::max<int64_t>(ceil_div(all, std::max<int64_t>(parts, 1)), 1));
  const auto run = [&]<int width>() {
    launch(context, add_parts_kernel<T, width>, dim3{blocks_for(n, part_columns * width).x, somes, 1}, dim3{part_columns, part_lines, 1}, 0,
           totals, partial, parts, all, n);
  };
  if (packs<float>(n, partial)) run.template operator()<4>();
  else run.template operator()<1>();
}
template <class T> void add_parts(Context& context, T* total, const float* partial, int64_t parts, int64_t n) {
  add_some_parts(context, total, partial, parts, parts, n);
}

}  // namespace turl
