// Matrix product: y[i] = op(a[i]) op(b[i]) for i < batch, op transposing or not; op(a) [m, k], op(b) [k, n], y [m, n], sums in
// float32. One block computes a tile of y: on matrix units (matrix_product.h, warpgroup_product.h) for bfloat16 whose rows come in
// packs of 8, else 64 x 64; of an operand it reads the tile's side times k values, once per tile.
#include "cuda/warpgroup_product.h"
#include "kernels.h"

namespace turl {
namespace {

struct MatmulSizes {
  int m, n, k;
};

template <class R, class T, bool transpose_a, bool transpose_b>
__global__ void __launch_bounds__(tile_threads, 2) matmul_kernel(R* y, const T* a, const T* b, MatmulSizes s) {
  const int first_row = int(blockIdx.x) * tile_side, first_column = int(blockIdx.y) * tile_side;
  const int64_t matrix = blockIdx.z;
  a += matrix * s.m * s.k, b += matrix * s.k * s.n, y += matrix * s.m * s.n;
  float sums[4][4] = {};
  tile_product<transpose_a ? Fast::side : Fast::depth, transpose_b ? Fast::depth : Fast::side>(
      sums, 0, s.k,
      [&](int side, int64_t k) {
        const int row = first_row + side;
        return row < s.m ? float(a[transpose_a ? k * s.m + row : int64_t(row) * s.k + k]) : 0.0f;
      },
      [&](int side, int64_t k) {
        const int column = first_column + side;
        return column < s.n ? float(b[transpose_b ? int64_t(column) * s.k + k : k * s.n + column]) : 0.0f;
      });
  const int row = first_row + int(threadIdx.x / 16 * 4), column = first_column + int(threadIdx.x % 16 * 4);
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 4; j++)
      if (row + i < s.m && column + j < s.n) y[int64_t(row + i) * s.n + column + j] = R(sums[i][j]);
}

template <class Units, class R, bool transpose_a, bool transpose_b>
__global__ void __launch_bounds__(Units::threads, Units::blocks(true))
    matmul_matrix_kernel(R* y, const bfloat16* a, const bfloat16* b, MatmulSizes s) {
  const int first_row = int(blockIdx.x) * Units::rows, first_column = int(blockIdx.y) * Units::columns;
  const int64_t matrix = blockIdx.z;
  a += matrix * s.m * s.k, b += matrix * s.k * s.n, y += matrix * s.m * s.n;
  Units::template product<transpose_a ? Fast::side : Fast::depth, transpose_b ? Fast::depth : Fast::side>(
      0, s.k,
      [&](Pack<bfloat16>* to, int, int side, int k) {
        const int row = first_row + side;
        const bool inside = row < s.m && k < s.k;
        copy_async(to, inside ? a + (transpose_a ? int64_t(k) * s.m + row : int64_t(row) * s.k + k) : a, inside);
      },
      [&](Pack<bfloat16>* to, int, int side, int k) {
        const int column = first_column + side;
        const bool inside = column < s.n && k < s.k;
        copy_async(to, inside ? b + (transpose_b ? int64_t(column) * s.k + k : int64_t(k) * s.n + column) : b, inside);
      },
      [&](auto& sums) {
        sums.each_row([&](int m, int half) {
          const int row = first_row + sums.row(m, half);
          R* const to = y + int64_t(row) * s.n;
          const auto inside = [&](int column) { return row < s.m ? s.n - column : 0; };
          if constexpr (std::is_same_v<R, bfloat16>)
            sums.packs(m, half, [&](int column, const Pack<bfloat16>& pack) {
              put_pack(to + first_column + column, pack, inside(first_column + column));
            });
          else
            sums.pairs(m, half, [&](int column, float first, float second) {
              put_pair(to + first_column + column, first, second, inside(first_column + column));
            });
        });
      });
}

// f with whether a and b are transposed.
template <class F> void with_transposes(bool a, bool b, F f) {
  if (a) b ? f.template operator()<true, true>() : f.template operator()<true, false>();
  else b ? f.template operator()<false, true>() : f.template operator()<false, false>();
}

template <class R, class T>
void launch_matmul(Context& context, R* y, const T* a, const T* b, int64_t batch, const MatmulSizes& s, bool transpose_a,
                   bool transpose_b) {
  // A grid has at most 65,535 matrices: longer batches go in several launches.
  const auto in_tiles = [&](auto kernel, int rows, int columns, int threads, int shared_bytes) {
    constexpr int64_t most = 65535;
    for (int64_t first = 0; first < batch; first += most) {
      const int64_t count = batch - first < most ? batch - first : most;
      const dim3 grid{unsigned(ceil_div<int64_t>(s.m, rows)), unsigned(ceil_div<int64_t>(s.n, columns)), unsigned(count)};
      launch(context, kernel, grid, threads, shared_bytes, y + first * s.m * s.n, a + first * s.m * s.k, b + first * s.k * s.n, s);
    }
  };
  with_transposes(transpose_a, transpose_b, [&]<bool a_transposed, bool b_transposed>() {
    if constexpr (std::is_same_v<T, bfloat16>)
      if (packs<bfloat16>(a_transposed ? s.m : s.k, a) && packs<bfloat16>(b_transposed ? s.k : s.n, b))
        return with_matrix_units(context, s.n, [&]<class Units>() {
          in_tiles(matmul_matrix_kernel<Units, R, a_transposed, b_transposed>, Units::rows, Units::columns, Units::threads,
                   Units::shared_bytes);
        });
    in_tiles(matmul_kernel<R, T, a_transposed, b_transposed>, tile_side, tile_side, tile_threads, 0);
  });
}

}  // namespace

void matmul(Context& context, Out y, In a, In b, int64_t batch, int64_t m, int64_t n, int64_t k, int64_t transpose_a,
            int64_t transpose_b) {
  const MatmulSizes s{int(m), int(n), int(k)};
  with_float(a.dtype, [&]<class T>() {
    if (y.dtype == DType::float32)
      launch_matmul(context, y.as<float>(), a.as<T>(), b.as<T>(), batch, s, transpose_a != 0, transpose_b != 0);
    else launch_matmul(context, y.as<T>(), a.as<T>(), b.as<T>(), batch, s, transpose_a != 0, transpose_b != 0);
  });
}

}  // namespace turl
