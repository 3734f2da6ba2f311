// The race check itself: it must see that a barrier is missing, and must be silent where it is not.
#ifdef TURL_RACE_CHECK
#include "tests/test.h"

namespace turl::test {
namespace {

template <bool with_barrier> __global__ void neighbour_kernel(float* y) {
  begin_kernel();
  TURL_SHARED(float, tile, [64]);
  unsigned i = threadIdx.x;
  tile[i] = float(i);
  if (with_barrier) __syncthreads();
  y[blockIdx.x * 64 + i] = tile[(i + 1) % 64];
}
TURL_TEST(a_missing_barrier_is_reported) {
  Array<float> y(2 * 64);
  launch(context, neighbour_kernel<false>, 2, 64, 0, y.data);
  TURL_EXPECT(take_race_reports() > 0);
}
TURL_TEST(a_barrier_in_place_is_not) {
  Array<float> y(2 * 64);
  launch(context, neighbour_kernel<true>, 2, 64, 0, y.data);
  TURL_EXPECT(take_race_reports() == 0);
}

// The second barrier of a loop: without it a fast thread overwrites what a slow one still reads.
template <bool with_barrier> __global__ void rounds_kernel(float* y) {
  begin_kernel();
  TURL_SHARED(float, tile, [64]);
  unsigned i = threadIdx.x;
  float value = float(i);
  for (int round = 0; round < 3; round++) {
    tile[i] = value;
    __syncthreads();
    value += tile[63 - i];
    if (with_barrier) __syncthreads();
  }
  y[i] = value;
}
TURL_TEST(a_missing_second_barrier_is_reported) {
  Array<float> y(64);
  launch(context, rounds_kernel<false>, 1, 64, 0, y.data);
  TURL_EXPECT(take_race_reports() > 0);
  launch(context, rounds_kernel<true>, 1, 64, 0, y.data);
  TURL_EXPECT(take_race_reports() == 0);
}

__global__ void same_place_kernel(float* y) {
  begin_kernel();
  if (threadIdx.x == 0) y[0] = float(blockIdx.x);
}
TURL_TEST(two_blocks_that_write_one_place_are_reported) {
  Array<float> y(1);
  launch(context, same_place_kernel, 8, 32, 0, y.data);
  TURL_EXPECT(take_race_reports() > 0);
}

// A shuffle does not order memory accesses; __syncwarp does.
template <bool with_sync> __global__ void warp_kernel(float* y) {
  begin_kernel();
  TURL_SHARED(float, tile, [32]);
  tile[threadIdx.x] = float(threadIdx.x);
  if (with_sync) __syncwarp();
  else __shfl_xor_sync(full_warp, 1, 1);
  y[threadIdx.x] = tile[31 - threadIdx.x];
}
TURL_TEST(a_shuffle_is_no_barrier) {
  Array<float> y(32);
  launch(context, warp_kernel<false>, 1, 32, 0, y.data);
  TURL_EXPECT(take_race_reports() > 0);
  launch(context, warp_kernel<true>, 1, 32, 0, y.data);
  TURL_EXPECT(take_race_reports() == 0);
}

}  // namespace
}  // namespace turl::test
#endif
