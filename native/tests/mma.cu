// Matrix products of a warp fed by asynchronous copies, against plain loops; all values are exact, so results are equal.
#include "cuda/async.h"
#include "cuda/mma.h"
#include "tests/test.h"

namespace turl::test {
namespace {

// y [16, 16] = a [16, k] b, where b is stored as [16, k], or as [k, 16] when `transposed`; tiles of 16 in k, two of them in flight.
template <bool transposed>
__global__ void product_kernel(float* y, const bfloat16* a, const bfloat16* b, int k) {
  begin_kernel();
  TURL_SHARED(Pack<bfloat16>, a_tile, [2][16][3]);  // rows of 16 elements and a pack of padding
  TURL_SHARED(Pack<bfloat16>, b_tile, [2][16][3]);
  int lane = int(threadIdx.x), row = lane / 2, half = lane % 2;
  auto fetch = [&](int tile) {
    if (tile < k / 16) {
      copy_async(&a_tile[tile % 2][row][half], a + row * k + tile * 16 + half * 8);
      copy_async(&b_tile[tile % 2][row][half], b + (transposed ? (tile * 16 + row) * 16 : row * k + tile * 16) + half * 8);
    }
    commit_copies();
  };
  float d[2][4] = {};
  fetch(0);
  for (int tile = 0; tile < k / 16; tile++) {
    fetch(tile + 1);
    wait_copies<1>();
    __syncthreads();
    uint32_t ra[4], rb[4];
    load_matrix_4(ra, &a_tile[tile % 2][lane % 16][lane / 16]);
    if (transposed) load_matrix_4_transposed(rb, &b_tile[tile % 2][lane % 16][lane / 16]);
    else load_matrix_4(rb, &b_tile[tile % 2][lane % 8 + lane / 16 * 8][lane / 8 % 2]);
    mma_bfloat16(d[0], ra, rb[0], rb[1]);
    mma_bfloat16(d[1], ra, rb[2], rb[3]);
    __syncthreads();
  }
  for (int block = 0; block < 2; block++)
    for (int i = 0; i < 4; i++) y[(lane / 4 + i / 2 * 8) * 16 + block * 8 + lane % 4 * 2 + i % 2] = d[block][i];
}

template <bool transposed> void check_product(Context& context) {
  size_t k = 80;
  Array<bfloat16> a(16 * k), b(16 * k);
  Array<float> y(256);
  for (size_t i = 0; i < a.size; i++) a[i] = small(i), b[i] = small(i + 7000);
  launch(context, product_kernel<transposed>, 1, 32, 0, y.data, a.data, b.data, int(k));
  synchronize();
  for (size_t row = 0; row < 16; row++)
    for (size_t column = 0; column < 16; column++) {
      float sum = 0;
      for (size_t j = 0; j < k; j++) sum += float(a[row * k + j]) * float(b[transposed ? j * 16 + column : column * k + j]);
      TURL_EXPECT(y[row * 16 + column] == sum);
    }
}
TURL_TEST(mma_with_b_stored_by_column) { check_product<false>(context); }
TURL_TEST(mma_with_b_stored_by_row) { check_product<true>(context); }

__global__ void fill_outside_kernel(float* y, const float* x) {
  begin_kernel();
  TURL_SHARED(Pack<float>, tile, [32]);
  copy_async(&tile[threadIdx.x], x + threadIdx.x * 4, threadIdx.x < 20);
  commit_copies();
  wait_copies<0>();
  for (int i = 0; i < 4; i++) y[threadIdx.x * 4 + i] = tile[threadIdx.x][i];
}
TURL_TEST(copies_outside_give_zeros) {
  Array<float> x(128, 3.0f), y(128);
  launch(context, fill_outside_kernel, 1, 32, 0, y.data, x.data);
  synchronize();
  for (size_t i = 0; i < 128; i++) TURL_EXPECT(y[i] == (i < 80 ? 3.0f : 0.0f));
}

}  // namespace
}  // namespace turl::test
