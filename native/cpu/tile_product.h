// Products of small matrices that fit the caches: c[m, n] (+)= sum over k of a(m, k) b[k, n]. a(m, k) lies at a[m a_row + k a_step], so a
// may be transposed; b and c are row-major with leading dimensions b_row and c_row. The number of columns must be a multiple of the vector
// width (pad them). Leading dimensions should not be powers of two, for which rows fall into the same sets of a cache.
#pragma once
#include "cpu/blocks.h"
#include "cpu/lanes.h"

namespace turl {

constexpr int tile_vectors = 2;  // of c's columns held in registers, for tile_rows rows

// Memory that will be read soon. A product prefetches it, a cache line at each step, while it keeps the arithmetic units busy.
struct NextLines {
  const char* next = nullptr;
  const char* end = nullptr;
  template <class A> static NextLines of(const A* from, int64_t count) {
    return {reinterpret_cast<const char*>(from), reinterpret_cast<const char*>(from + count)};
  }
  void fetch() {
    if (next < end) __builtin_prefetch(next), next += 64;
  }
};

template <class A> struct TileProduct {
  using L = Lanes<A>;
  using V = typename L::V;
  A* c;
  int64_t c_row;
  const A* a;
  int64_t a_row, a_step;
  const A* b;
  int64_t b_row;
  int64_t depth;
  bool add;

  template <int R, int N> void block(int64_t m, int64_t n, NextLines& next) const {
    V sum[R][N];
    for (int i = 0; i < R; i++)
      for (int j = 0; j < N; j++) sum[i][j] = V{};
    const A* left = a + m * a_row;
    const A* right = b + n;
    NextLines lines = next;  // a copy stays in registers
#pragma GCC unroll unrolled
    for (int64_t k = 0; k < depth; k++, left += a_step, right += b_row) {
      V row[N];
      lines.fetch();
      for (int j = 0; j < N; j++) {
        row[j] = load_lanes(right + j * L::width);
        __builtin_prefetch(right + j * L::width + 16 * b_row);  // gains 3 to 6 % where b comes from memory
      }
      for (int i = 0; i < R; i++) {
        V value = L::splat(left[i * a_row]);
        for (int j = 0; j < N; j++) sum[i][j] = L::fma(value, row[j], sum[i][j]);
      }
    }
    next = lines;
    A* out = c + m * c_row + n;
    for (int i = 0; i < R; i++)
      for (int j = 0; j < N; j++) {
        A* p = out + i * c_row + j * L::width;
        store_lanes(p, add ? load_lanes(p) + sum[i][j] : sum[i][j]);
      }
  }
  // Sums to which a tile will be added may be in memory: they are prefetched before its products.
  template <int N> void ask_for_sums(int64_t m, int64_t rows, int64_t n) const {
    for (int64_t i = m; i < m + rows; i++)
      for (int j = 0; j < N; j++) __builtin_prefetch(c + i * c_row + n + j * L::width, 1);
  }
  template <int N> void panel(int64_t rows, int64_t n, NextLines& next) const {
    int64_t m = 0;
    for (; m + tile_rows <= rows; m += tile_rows) {
      if (add) ask_for_sums<N>(m, tile_rows, n);
      block<tile_rows, N>(m, n, next);
    }
    if (add) ask_for_sums<N>(m, rows - m, n);
    with_rows<tile_rows - 1>(rows - m, [&]<int last>() { block<last, N>(m, n, next); });
  }
  void run(int64_t rows, int64_t columns, NextLines next = {}) const {
    constexpr int64_t wide = tile_vectors * L::width;
    int64_t n = 0;
    for (; n + wide <= columns; n += wide) panel<tile_vectors>(rows, n, next);
    for (; n < columns; n += L::width) panel<1>(rows, n, next);
  }
};

}  // namespace turl
