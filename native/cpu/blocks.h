// What kernels that work by blocks share: the size of their register tiles, and memory of a thread for packed blocks.
#pragma once
#include <cstdlib>
#include <memory>
#include <new>
#include "cpu/simd.h"

namespace turl {

// Sums held in registers: 6 x 16 with AVX2 (12 accumulators of 16 registers), 12 x 32 with AVX-512 (24 of 32), 6 x 8 without.
constexpr int tile_rows = lanes == 16 ? 12 : 6;
constexpr int tile_columns = 2 * lanes;
// How often a tile's inner loop is unrolled. With AVX2 it saves 3 to 10 % of a convolution on a busy Zen 3; with AVX-512, whose steps have
// twice as many products, next to nothing.
constexpr int unrolled = lanes == 16 ? 1 : 4;

inline int64_t ceil_div(int64_t n, int64_t d) { return (n + d - 1) / d; }
inline int64_t round_up(int64_t n, int64_t d) { return ceil_div(n, d) * d; }

// f.operator()<rows>() for 0 < rows <= most: with the number known at compile time, sums of so many rows stay in registers.
template <int most = tile_rows, class F> void with_rows(int64_t rows, F&& f) {
  if constexpr (most > 0) {
    if (rows == most) f.template operator()<most>();
    else with_rows<most - 1>(rows, f);
  }
}

// What a thread keeps memory for: the packed operands of the kernel that runs, the sums of channels (channel_sums.h), a table of pointers
// (conv_gather.h). A kernel uses a slot for one thing at a time; one that needs a third operand and leaves no sums of channels takes that
// slot.
enum class Slot { operand, other_operand, sums, pointers };

// At least that many floats of memory of this thread, aligned to a cache line and not cleared. It is kept between calls, and is the same
// memory for everybody who asks for the slot.
template <Slot slot> inline float* thread_memory(int64_t floats) {
  thread_local std::unique_ptr<float, decltype(&std::free)> memory{nullptr, std::free};
  thread_local int64_t size = 0;
  if (size < floats) {
    memory.reset(static_cast<float*>(std::aligned_alloc(64, size_t(round_up(floats * 4, 64)))));
    if (!memory) {
      size = 0;
      throw std::bad_alloc();
    }
    size = floats;
  }
  return memory.get();
}

}  // namespace turl
