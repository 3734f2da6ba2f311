// The mean and the variance of each channel of a result [rows, channels], from sums that the blocks which compute it leave: the batch
// normalisation that follows need not read the result for them (docs/decisions/0012-statistics-on-the-way.md).
//
// Blocks leave partial [chunk][2][channels]: float sums of a chunk's values and of their squares. The chunks are added in double. Their order
// depends on sizes only; for conv_windows.h, which halves its last tiles to fill the GPU, also on the number of multiprocessors. Only
// bfloat16 results are summed like this: where a large mean costs accuracy here, rounding to bfloat16 has cost more.
#pragma once
#include "cuda/device.h"

namespace turl {

// statistics [2, channels] = means and variances, from the sums of `chunks` chunks.
void finish_statistics(Context& context, Out statistics, const float* partial, int chunks, int64_t rows, int64_t channels);
// Means and variances of y [rows, channels], read from memory.
void channel_statistics(Context& context, Out statistics, In y, int64_t rows, int64_t channels);

// Memory for the partial sums of so many chunks; null if nobody wants statistics.
inline float* chunk_sums(Context& context, Out statistics, int64_t chunks, int64_t channels) {
  return statistics.size == 0 ? nullptr : static_cast<float*>(context.scratch(size_t(chunks * 2 * channels) * sizeof(float)));
}

// Called by the threads that have the sums of a tile of a product (matrix_tile.h; Units::users of them). Sums the values of each column of the
// tile over the rows for which counts(m, half), and their squares, and writes these to to[column] and to[channels + column] for
// column < inside. Units::column_warps warps share a column; they exchange their parts through memory that is free once all have met.
template <class Units, class Tile, class C>
__device__ void leave_column_sums(float* to, int channels, int inside, const Tile& sums, C counts) {
  constexpr int columns = Units::columns;
  float* const of_warps = Units::free_memory();  // [column_warps][2][columns]
  Units::meet(0);
  sums.column_sums(counts, [&](int column, float sum, float square) {
    float* const at = of_warps + Units::column_warp() * 2 * columns + column;
    at[0] = sum, at[columns] = square;
  });
  Units::meet(1);
  for (int i = Units::user(); i < 2 * columns; i += Units::users) {
    float total = 0;
#pragma unroll
    for (int warp = 0; warp < Units::column_warps; warp++) total += of_warps[warp * 2 * columns + i];
    if (i % columns < inside) to[i / columns * channels + i % columns] = total;
  }
}

}  // namespace turl
