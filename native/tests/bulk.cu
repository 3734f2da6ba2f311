// Bulk copies and mbarriers (sm_90): one thread feeds a ring of tiles, the others add them up.
#include "cuda/async.h"
#include "tests/test.h"

namespace turl::test {
namespace {

constexpr int tile_size = 64, stages = 2, readers = 64;

__global__ void ring_kernel(float* y, const float* x, int tiles) {
  begin_kernel();
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  TURL_SHARED(Pack<float>, ring, [stages][tile_size / 4]);
  TURL_SHARED(Mbarrier, full, [stages]);
  TURL_SHARED(Mbarrier, empty, [stages]);
  int i = int(threadIdx.x);
  if (i == 0) {
    for (int s = 0; s < stages; s++) init_mbarrier(full[s], 1), init_mbarrier(empty[s], readers);
    fence_mbarrier_init();
  }
  __syncthreads();
  if (i == readers) {
    for (int t = 0; t < tiles; t++) {
      int s = t % stages;
      if (t >= stages) wait_mbarrier(empty[s], (t / stages - 1) % 2);
      expect_bytes(full[s], tile_size * sizeof(float));
      copy_bulk(ring[s], x + t * tile_size, tile_size * sizeof(float), full[s]);
    }
  } else if (i < readers) {
    float sum = 0;
    for (int t = 0; t < tiles; t++) {
      int s = t % stages;
      wait_mbarrier(full[s], t / stages % 2);
      sum += ring[s][i / 4][i % 4];
      arrive(empty[s]);
    }
    y[i] = sum;
  }
#endif
}
TURL_TEST(a_ring_of_bulk_copies) {
  constexpr size_t tiles = 9;
  Array<float> x(tiles * tile_size), y(readers);
  for (size_t i = 0; i < x.size; i++) x[i] = small(i);
  launch(context, ring_kernel, 1, readers + 32, 0, y.data, x.data, int(tiles));
  synchronize();
  for (size_t i = 0; i < readers; i++) {
    float sum = 0;
    for (size_t t = 0; t < tiles; t++) sum += x[t * tile_size + i];
    TURL_EXPECT(y[i] == sum);
  }
}

}  // namespace
}  // namespace turl::test
