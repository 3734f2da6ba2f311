// Eq. 16 between every row of a and every row of b, whose groups each have length 1 (§3.5): a [rows, K d],
// b [columns, K d], variances sigma^2 [rows, K] and [columns, K], y [rows, columns]:
//   y[i, j] = -1/2 sum over k of ((2 - 2 a_i^(k) . b_j^(k)) / v + d log v),   v = variance_a[i, k] + variance_b[j, k]
//
// A chunk is 768 rows by a panel of 64 columns: enough rows that packing the panel costs little, and few enough columns that it stays in
// the L2 cache (128 KiB for K d = 512). For each 48 rows and each group the products form a tile, and one pass over it adds the group's term.
#include <vector>
#include "cpu/parallel.h"
#include "cpu/tile_product.h"
#include "kernels.h"

namespace turl {
namespace {

constexpr int64_t panel_columns = 64, chunk_rows = 768, band_rows = 48;

// For the columns j of one row of a tile: sums[j] += (2 - 2 product[j]) / v + d log v.
template <class A> void add_group(A* sums, const A* product, A variance, const A* variances, A size) {
  using L = Lanes<A>;
  for (int64_t j = 0; j < panel_columns; j += L::width) {
    const auto v = L::splat(variance) + load_lanes(variances + j);
    const auto distance = L::max(L::splat(0), L::splat(2) - L::splat(2) * load_lanes(product + j));  // NaN stays
    store_lanes(sums + j, load_lanes(sums + j) + distance / v + L::splat(size) * L::log_of_normal(v));
  }
}

template <class A>
void score(Context& context, A* y, const A* a, const A* b, const A* variance_a, const A* variance_b, int64_t rows,
           int64_t columns, int64_t groups, int64_t size) {
  const int64_t width = groups * size, panels = (columns + panel_columns - 1) / panel_columns;
  parallel_chunks(context, panels * ((rows + chunk_rows - 1) / chunk_rows), [&](int64_t chunk) {
    const int64_t column = chunk % panels * panel_columns, count = std::min(panel_columns, columns - column);
    const int64_t begin = chunk / panels * chunk_rows, end = std::min(rows, begin + chunk_rows);
    std::vector<A> panel(size_t(width * panel_columns)), variances(size_t(groups * panel_columns), A(1));
    std::vector<A> product(size_t(band_rows * panel_columns)), sums(size_t(band_rows * panel_columns));
    for (int64_t j = 0; j < count; j++) {
      for (int64_t c = 0; c < width; c++) panel[size_t(c * panel_columns + j)] = b[(column + j) * width + c];
      for (int64_t k = 0; k < groups; k++) variances[size_t(k * panel_columns + j)] = variance_b[(column + j) * groups + k];
    }
    for (int64_t row = begin; row < end; row += band_rows) {
      const int64_t band = std::min(band_rows, end - row);
      std::fill(sums.begin(), sums.end(), A(0));
      for (int64_t k = 0; k < groups; k++) {
        TileProduct<A>{product.data(), panel_columns,     a + row * width + k * size, width, 1, panel.data() + k * size * panel_columns,
                       panel_columns,  size,              false}
            .run(band, panel_columns);
        for (int64_t i = 0; i < band; i++)
          add_group(sums.data() + i * panel_columns, product.data() + i * panel_columns, variance_a[(row + i) * groups + k],
                    variances.data() + k * panel_columns, A(size));
      }
      for (int64_t i = 0; i < band; i++)
        for (int64_t j = 0; j < count; j++) y[(row + i) * columns + column + j] = A(-0.5) * sums[size_t(i * panel_columns + j)];
    }
  });
}

}  // namespace

void pair_scores(Context& context, Out y, In a, In b, In variance_a, In variance_b, int64_t rows, int64_t columns, int64_t groups,
                 int64_t size) {
  const auto run = [&]<class A>() {
    score(context, y.as<A>(), a.as<A>(), b.as<A>(), variance_a.as<A>(), variance_b.as<A>(), rows, columns, groups, size);
  };
  if (a.dtype == DType::float64) run.template operator()<double>();
  else run.template operator()<float>();
}

}  // namespace turl
