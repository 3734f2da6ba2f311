// A space of positions whose elements lie at strides in two arrays; passed to kernels by value.
#pragma once
#include "types.h"

namespace turl {

struct Space {
  static constexpr int max_rank = 16;
  int rank;
  int32_t shape[max_rank], a[max_rank], b[max_rank];
  Space(Ints sizes, Ints a_strides, Ints b_strides) : rank(int(sizes.size)) {
    if (rank > max_rank) throw std::runtime_error("at most 16 axes, got " + std::to_string(rank));
    for (int d = 0; d < rank; d++) shape[d] = sizes[d], a[d] = a_strides[d], b[d] = b_strides[d];
  }
  int64_t size() const {
    int64_t n = 1;
    for (int d = 0; d < rank; d++) n *= shape[d];
    return n;
  }
  // The offsets of position i in both arrays.
  TURL_BOTH void offsets(int64_t i, int64_t& at_a, int64_t& at_b) const {
    at_a = at_b = 0;
    for (int d = rank - 1; d >= 0; i /= shape[d], d--) {
      int64_t at = i % shape[d];
      at_a += at * a[d], at_b += at * b[d];
    }
  }
};

}  // namespace turl
