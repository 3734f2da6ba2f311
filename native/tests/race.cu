// The race check itself: it must see that a barrier is missing, and must be silent where it is not.
#ifdef TURL_RACE_CHECK
#include "cuda/warpgroup.h"
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

// Matrix instructions read and write shared memory too.
template <bool with_sync> __global__ void matrix_kernel() {
  begin_kernel();
  TURL_SHARED(Pack<bfloat16>, tile, [32]);
  tile[31 - threadIdx.x] = {};
  if (with_sync) __syncwarp();
  uint32_t registers[4];
  load_matrix_4(registers, &tile[threadIdx.x]);
  if (with_sync) __syncwarp();
  store_matrix_4_transposed(&tile[31 - threadIdx.x], registers);
}
template <bool with_sync> __global__ void store_matrix_kernel() {
  begin_kernel();
  TURL_SHARED(Pack<bfloat16>, tile, [32]);
  store_matrix_4_transposed(&tile[31 - threadIdx.x], {});
  if (with_sync) __syncwarp();
  tile[threadIdx.x] = {};
}
TURL_TEST(what_matrix_instructions_race_with_is_reported) {
  launch(context, matrix_kernel<false>, 1, 32, 0);
  TURL_EXPECT(take_race_reports() > 0);
  launch(context, store_matrix_kernel<false>, 1, 32, 0);
  TURL_EXPECT(take_race_reports() > 0);
  launch(context, matrix_kernel<true>, 1, 32, 0);
  launch(context, store_matrix_kernel<true>, 1, 32, 0);
  TURL_EXPECT(take_race_reports() == 0);
}

// What is under way may write, or read, from its beginning on.
template <bool late> __global__ void copy_over_kernel(float* y, const float* x) {
  begin_kernel();
  TURL_SHARED(Pack<float>, tile, [32]);
  const unsigned i = threadIdx.x;
  tile[i] = {};
  __syncthreads();
  y[i] = tile[31 - i][0];
  if (late) __syncthreads();
  copy_async(&tile[i], x + 4 * i);
  commit_copies();
  if (!late) __syncthreads();
  wait_copies<0>();
}
template <bool late> __global__ void copy_bulk_over_kernel(float* y, const float* x) {
  begin_kernel();
  TURL_SHARED(Pack<float>, tile, [32]);
  TURL_SHARED(Mbarrier, full);
  const unsigned i = threadIdx.x;
  tile[i] = {};
  if (i == 0) init_mbarrier(full, 1), fence_mbarrier_init();
  __syncthreads();
  y[i] = tile[31 - i][0];
  if (late) __syncthreads();
  if (i == 0) copy_bulk(tile, x, sizeof(tile), full);
  if (!late) __syncthreads();
  if (i == 0) expect_bytes(full, sizeof(tile));
  wait_mbarrier(full, 0);
}
TURL_TEST(a_copy_that_begins_before_its_place_is_free_is_reported) {
  Array<float> x(128), y(32);
  launch(context, copy_over_kernel<false>, 1, 32, 0, y.data, x.data);
  TURL_EXPECT(take_race_reports() > 0);
  launch(context, copy_bulk_over_kernel<false>, 1, 32, 0, y.data, x.data);
  TURL_EXPECT(take_race_reports() > 0);
  launch(context, copy_over_kernel<true>, 1, 32, 0, y.data, x.data);
  launch(context, copy_bulk_over_kernel<true>, 1, 32, 0, y.data, x.data);
  TURL_EXPECT(take_race_reports() == 0);
}

template <bool late> __global__ void early_product_kernel(const bfloat16* x) {
  begin_kernel();
  auto* const tile = dynamic_shared<Pack<bfloat16>>();
  TURL_SHARED(Mbarrier, full);
  if (threadIdx.x == 0) init_mbarrier(full, 1), fence_mbarrier_init();
  __syncthreads();
  if (threadIdx.x == 0) {
    expect_bytes(full, block_packs * 16);
    copy_bulk(tile, x, block_packs * 16, full);
  }
  if (late) wait_mbarrier(full, 0);
  float d[8][4] = {};
  warpgroup_fence(d);
  warpgroup_mma<false, false>(d, operand<false>(tile, 0), operand<false>(tile, 0));
  warpgroup_commit();
  if (!late) wait_mbarrier(full, 0);
  warpgroup_wait<0>(d);
}
TURL_TEST(a_product_that_begins_before_its_operands_are_there_is_reported) {
  Array<bfloat16> x(block_packs * 8);
  launch(context, early_product_kernel<false>, 1, 128, block_packs * 16, x.data);
  TURL_EXPECT(take_race_reports() > 0);
  launch(context, early_product_kernel<true>, 1, 128, block_packs * 16, x.data);
  TURL_EXPECT(take_race_reports() == 0);
}

}  // namespace
}  // namespace turl::test
#endif
