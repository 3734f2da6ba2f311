// Matrix product: y[i] = op(a[i]) op(b[i]) for i < batch, op transposing or not; op(a) [m, k], op(b) [k, n], y [m, n], sums in
// float32. One block computes a 64 x 64 tile of y; of an operand it reads 64 k values, once per tile.
#include "cuda/tile_product.h"
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

template <class R, class T>
void launch_matmul(Context& context, R* y, const T* a, const T* b, int64_t batch, const MatmulSizes& s, bool transpose_a,
                   bool transpose_b) {
  auto kernel = transpose_a ? (transpose_b ? matmul_kernel<R, T, true, true> : matmul_kernel<R, T, true, false>)
                            : (transpose_b ? matmul_kernel<R, T, false, true> : matmul_kernel<R, T, false, false>);
  // A grid has at most 65,535 matrices: longer batches go in several launches.
  constexpr int64_t most = 65535;
  for (int64_t first = 0; first < batch; first += most) {
    const int64_t count = batch - first < most ? batch - first : most;
    const dim3 grid{unsigned(ceil_div<int64_t>(s.m, tile_side)), unsigned(ceil_div<int64_t>(s.n, tile_side)), unsigned(count)};
    launch(context, kernel, grid, tile_threads, 0, y + first * s.m * s.n, a + first * s.m * s.k, b + first * s.k * s.n, s);
  }
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
