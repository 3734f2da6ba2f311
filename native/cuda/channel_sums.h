// The mean and the variance of each channel of a result [rows, channels], from sums that the blocks which make it leave: the batch
// normalisation that follows need not read it for them. Blocks leave partial [chunk][2][channels]: float sums of a chunk's values and of
// their squares; the chunks' are added in double, in an order that depends on the sizes, and by windows also on how many multiprocessors
// the GPU has (conv_windows.h halves its last tiles by that). Only results in bfloat16 are summed so:
// where a large mean would cost accuracy, it has cost more in the rounding.
#pragma once
#include "cuda/device.h"

namespace turl {

// statistics [2, channels] = means and variances, from the sums of `chunks` chunks.
void finish_statistics(Context& context, Out statistics, const float* partial, int chunks, int64_t rows, int64_t channels);
// The same of y as it stands in memory.
void channel_statistics(Context& context, Out statistics, In y, int64_t rows, int64_t channels);

// The partial sums of that many chunks; null if nobody wants statistics.
inline float* chunk_sums(Context& context, Out statistics, int64_t chunks, int64_t channels) {
  return statistics.size == 0 ? nullptr : static_cast<float*>(context.scratch(size_t(chunks * 2 * channels) * sizeof(float)));
}

// By the threads of a block that have the sums of a tile of a product (matrix_tile.h), Units::users of them: leaves those of the tile's
// columns, over the rows that count (counts(m, half)), at to[column] and to[channels + column], as far as they are inside. A column belongs
// to Units::column_warps warps, which exchange their parts through memory that is free once all have met.
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
