// Tiles of classes of the margin softmax (margin_softmax.cpp): their logits, and what they give to the gradients.
#pragma once
#include <algorithm>
#include "cpu/normalize_group.h"
#include "cpu/tile_product.h"
#include "kernels.h"

namespace turl {

// Memory for a whole call, and for the chunk that a thread works on. It is not cleared.
template <class A> A* call_memory(Context& context, int64_t elements) {
  return static_cast<A*>(context.scratch(size_t(std::max<int64_t>(elements, 1)) * sizeof(A)));
}
template <class A> A* chunk_memory(int64_t elements) {
  return reinterpret_cast<A*>(thread_memory<Slot::operand>(elements * int64_t(sizeof(A)) / 4 + 1));
}

// B samples, N classes, D elements in K groups. A chunk is a run of tiles, whose number depends on N only.
struct Classes {
  int64_t samples, classes, size, groups, tile;
  int64_t tiles = (classes + tile - 1) / tile, chunk_tiles = std::max<int64_t>(8, (tiles + 31) / 32);
  int64_t chunks = (tiles + chunk_tiles - 1) / chunk_tiles;
  int64_t length = size / groups;

  int64_t count(int64_t index) const { return std::clamp<int64_t>(classes - index * tile, 0, tile); }
  // The rows of tile `index`, to be prefetched during the product before the one that uses them.
  template <class A> NextLines rows(const A* w, int64_t index) const {
    return NextLines::of(w + index * tile * size, count(index) * size);
  }

  // dw of tile `index` from dv [tile, row], through the norms; `projection` has room for tile * groups.
  template <class A>
  void to_prototypes(int64_t index, A* dw, const A* dv, int64_t row, const A* w, const A* inverse, A* projection, A epsilon) const {
    const int64_t n = this->count(index), first = index * tile * size;
    const bool streaming = length % 16 == 0 && worth_streaming(dw, classes, size);
    const auto of_w = [&](int64_t g) { return w + first + g * length; };
    const auto of_dv = [&](int64_t g) { return dv + g / groups * row + g % groups * length; };
    projections(projection, inverse, n * groups, length, epsilon, of_w, of_dv);
    for (int64_t g = 0; g < n * groups; g++)
      project_group(dw + first + g * length, of_dv(g), of_w(g), inverse[g], projection[g], length, streaming);
    if (streaming) end_streaming();
  }
};

// Both kinds of tiles have this:
//   columns              samples padded to vectors
//   rows_t, rows_g       leading dimensions of [., B] and [., D] arrays
//   sums                 elements of dg [B, rows_g] with its padding
//   own(backward)        size of `own`, in elements: memory that a chunk has for logits() and gradients()
//   logits(i, own, a)    a [tile, rows_t] of tile i, transposed so that lanes run over samples
//   gradients(i, own, a, dg, add, dw)   given the gradients of the logits in a: dw of tile i, and dg (+)= what the tile gives to it
// This kind multiplies with vectors; T is the type of g. Between logits and gradients, v lies in `own`.
template <class T> struct VectorTiles : Classes {
  using A = acc_t<T>;
  A epsilon;
  const A* w;
  int64_t columns, rows_g, rows_t, sums;
  A *g, *transposed;  // [B, rows_g], [D, rows_t]

  VectorTiles(Context& context, In g_in, In w_in, int64_t samples, int64_t classes, int64_t size, int64_t groups, double epsilon)
      : Classes{samples, classes, size, groups, 48}, epsilon(A(epsilon)), w(w_in.as<A>()) {  // a multiple of TileProduct's 6 or 12 rows
    columns = padded(samples), rows_g = padded(size) + 16, rows_t = columns + 16, sums = samples * rows_g;
    g = call_memory<A>(context, samples * rows_g), transposed = call_memory<A>(context, size * rows_t);
    const T* in = g_in.as<T>();
    std::fill(g, g + samples * rows_g, A(0));
    std::fill(transposed, transposed + size * rows_t, A(0));
    for (int64_t i = 0; i < samples; i++)
      for (int64_t e = 0; e < size; e++) g[i * rows_g + e] = transposed[e * rows_t + i] = A(in[i * size + e]);
  }

  int64_t own(bool backward) const { return tile * ((backward ? 2 : 1) * (rows_g + groups)); }

  void logits(int64_t index, A* own, A* a) const {
    A *inverse = own, *v = inverse + tile * groups;
    const int64_t n = count(index);
    inverse_norms(inverse, w + index * tile * size, n * groups, length, epsilon);
    for (int64_t t = 0; t < n; t++) {
      const A* from = w + (index * tile + t) * size;
      A* to = v + t * rows_g;
      for (int64_t k = 0; k < groups; k++) scale_group(to + k * length, from + k * length, inverse[t * groups + k], length);
      std::fill(to + size, to + padded(size), A(0));
    }
    TileProduct<A>{a, rows_t, v, rows_g, 1, transposed, rows_t, size, false}.run(n, columns, rows(w, index + 1));
  }

  void gradients(int64_t index, A* own, const A* a, A* dg, bool add, A* dw) const {
    A *inverse = own, *v = inverse + tile * groups, *dv = v + tile * rows_g, *projection = dv + tile * rows_g;
    const int64_t n = count(index);
    TileProduct<A>{dv, rows_g, a, rows_t, 1, g, rows_g, samples, false}.run(n, padded(size));
    TileProduct<A>{dg, rows_g, a, 1, rows_t, v, rows_g, n, add}.run(samples, padded(size), rows(w, index + 1));
    to_prototypes(index, dw, dv, rows_g, w, inverse, projection, epsilon);
  }

 private:
  static int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }
};

}  // namespace turl
