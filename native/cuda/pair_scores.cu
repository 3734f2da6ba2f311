// Eq. 16 between every row of a and every row of b, whose groups each have length 1 (cpu/pair_scores.cpp), in float32:
//   y[i, j] = -1/2 sum over k of ((2 - 2 a_i^(k) . b_j^(k)) / v + d log v),   v = variance_a[i, k] + variance_b[j, k]
// One block computes a tile of 64 x 64 scores: for each group the products, then its term. It reads (64 + 64) K (d + 1) values.
#include "cuda/tile_product.h"
#include "kernels.h"

namespace turl {
namespace {

__global__ void __launch_bounds__(tile_threads, 2)
pair_scores_kernel(float* y, const float* a, const float* b, const float* variance_a, const float* variance_b, int rows,
                   int columns, int groups, int size) {
  begin_kernel();
  const int first_row = int(blockIdx.x) * tile_side, first_column = int(blockIdx.y) * tile_side;
  const int row = first_row + int(threadIdx.x / 16 * 4), column = first_column + int(threadIdx.x % 16 * 4);
  const int64_t width = int64_t(groups) * size;
  float sums[4][4] = {};
  for (int k = 0; k < groups; k++) {
    float product[4][4] = {};
    tile_product<Fast::depth, Fast::depth>(
        product, int64_t(k) * size, int64_t(k + 1) * size,
        [&](int side, int64_t c) { return first_row + side < rows ? a[(first_row + side) * width + c] : 0.0f; },
        [&](int side, int64_t c) { return first_column + side < columns ? b[(first_column + side) * width + c] : 0.0f; });
    for (int i = 0; i < 4; i++)
      for (int j = 0; j < 4; j++)
        if (row + i < rows && column + j < columns) {
          const float v = variance_a[int64_t(row + i) * groups + k] + variance_b[int64_t(column + j) * groups + k];
          const float distance = 2.0f - 2.0f * product[i][j];
          sums[i][j] += (distance < 0 ? 0 : distance) / v + float(size) * logf(v);  // NaN stays
        }
  }
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 4; j++)
      if (row + i < rows && column + j < columns) y[int64_t(row + i) * columns + column + j] = -0.5f * sums[i][j];
}

}  // namespace

void pair_scores(Context& context, Out y, In a, In b, In variance_a, In variance_b, int64_t rows, int64_t columns, int64_t groups,
                 int64_t size) {
  const dim3 grid{unsigned(ceil_div<int64_t>(rows, tile_side)), unsigned(ceil_div<int64_t>(columns, tile_side)), 1};
  launch(context, pair_scores_kernel, grid, tile_threads, 0, y.as<float>(), a.as<float>(), b.as<float>(),
         variance_a.as<float>(), variance_b.as<float>(), rows, columns, groups, size);
}

}  // namespace turl
