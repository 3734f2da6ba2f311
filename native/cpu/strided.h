// Walks over a contiguous index space whose elements lie at strides in two arrays.
#pragma once
#include <algorithm>
#include "types.h"

namespace turl {

constexpr int max_rank = 16;

// Calls f(position, a, b, count) for runs of `count` elements along the last dimension that cover positions [begin, end) of the space
// `shape`, of rank 1 or more. a and b are the offsets of the run's first element in the two arrays.
template <class F>
void for_runs(Ints shape, Ints a_strides, Ints b_strides, int64_t begin, int64_t end, F&& f) {
  int rank = int(shape.size);
  if (rank > max_rank) throw std::runtime_error("at most 16 axes, got " + std::to_string(rank));
  int64_t at[max_rank], a = 0, b = 0, rest = begin;
  for (int d = rank - 1; d >= 0; rest /= shape[d], d--) {
    at[d] = rest % shape[d];
    a += at[d] * a_strides[d], b += at[d] * b_strides[d];
  }
  for (int64_t position = begin; position < end;) {
    int d = rank - 1;
    int64_t count = std::min(shape[d] - at[d], end - position);
    f(position, a, b, count);
    position += count, at[d] += count;
    a += count * a_strides[d], b += count * b_strides[d];
    for (; d > 0 && at[d] == shape[d]; d--) {
      a += a_strides[d - 1] - at[d] * a_strides[d], b += b_strides[d - 1] - at[d] * b_strides[d];
      at[d] = 0, at[d - 1]++;
    }
  }
}

}  // namespace turl
