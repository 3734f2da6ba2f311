// Kernels that are wrong on purpose: the emulated device must say what is wrong, and where.
#if defined(TURL_EMULATED) && !defined(TURL_RACE_CHECK)
#include "cuda/async.h"
#include "cuda/mma.h"
#include "tests/test.h"

namespace turl::test {
namespace {

__global__ void skip_barrier_kernel() {
  begin_kernel();
  if (threadIdx.x < 8) __syncthreads();
}
TURL_TEST(a_barrier_that_some_threads_skip) {
  TURL_EXPECT_THROW(launch(context, skip_barrier_kernel, 1, 32, 0),
                    "deadlock in block (0, 0, 0): 8 threads wait at __syncthreads (faults.cu:");
}

__global__ void two_barriers_kernel() {
  begin_kernel();
  if (threadIdx.x < 8) __syncthreads();
  else __syncthreads();
}
TURL_TEST(threads_at_different_barriers) {
  TURL_EXPECT_THROW(launch(context, two_barriers_kernel, 1, 32, 0), "another thread of its block at __syncthreads");
}

__global__ void wrong_mask_kernel() {
  begin_kernel();
  if (threadIdx.x < 8) __shfl_xor_sync(full_warp, 1, 1);
}
TURL_TEST(a_mask_of_lanes_that_have_left) {
  TURL_EXPECT_THROW(launch(context, wrong_mask_kernel, 1, 32, 0), "__shfl_xor_sync (faults.cu:");
}

__global__ void disagreeing_kernel() {
  begin_kernel();
  __ballot_sync(threadIdx.x < 8 ? 0xffu : full_warp, 1);
}
TURL_TEST(lanes_with_different_masks) {
  TURL_EXPECT_THROW(launch(context, disagreeing_kernel, 1, 32, 0), "__ballot_sync (faults.cu:");
}

__global__ void unbegun_kernel(float* y) {
  y[threadIdx.x] = 1;
}
TURL_TEST(a_kernel_that_does_not_begin) {
  Array<float> y(32);
  TURL_EXPECT_THROW(launch(context, unbegun_kernel, 1, 32, 0, y.data), "returns without begin_kernel()");
}

__global__ void too_much_kernel() {
  begin_kernel();
  TURL_SHARED(float, tile, [13 * 1024]);
  tile[threadIdx.x] = 0;
}
TURL_TEST(too_much_static_shared_memory) {
  TURL_EXPECT_THROW(launch(context, too_much_kernel, 1, 32, 0), "static shared memory is over 48 KiB");
}

__global__ void both_kernel() {
  begin_kernel();
  TURL_SHARED(float, tile, [9 * 1024]);
  tile[threadIdx.x] = 0;
}
TURL_TEST(too_much_static_shared_memory_beside_dynamic) {
  launch(context, both_kernel, 1, 32, 0);
  TURL_EXPECT_THROW(launch(context, both_kernel, 1, 32, 128), "static shared memory beside dynamic is over 32 KiB");
}

__global__ void unwritten_kernel(float* y) {
  begin_kernel();
  TURL_SHARED(float, tile, [32]);
  y[threadIdx.x] = tile[threadIdx.x] + dynamic_shared<float>()[threadIdx.x];
}
TURL_TEST(shared_memory_starts_as_nan) {
  Array<float> y(32);
  launch(context, unwritten_kernel, 1, 32, 128, y.data);
  for (size_t i = 0; i < 32; i++) TURL_EXPECT(y[i] != y[i]);
}

__global__ void early_kernel(float* y, const float* x) {
  begin_kernel();
  TURL_SHARED(Pack<float>, tile, [32]);
  copy_async(&tile[threadIdx.x], x + threadIdx.x * 4);
  commit_copies();
  y[threadIdx.x] = tile[threadIdx.x][0];
  wait_copies<0>();
}
TURL_TEST(a_copy_arrives_only_when_waited_for) {
  Array<float> x(128, 1.0f), y(32);
  launch(context, early_kernel, 1, 32, 0, y.data, x.data);
  for (size_t i = 0; i < 32; i++) TURL_EXPECT(y[i] != y[i]);
}

__global__ void unfinished_kernel(const float* x) {
  begin_kernel();
  TURL_SHARED(Pack<float>, tile, [32]);
  copy_async(&tile[threadIdx.x], x + threadIdx.x * 4);
}
TURL_TEST(a_copy_that_nobody_waits_for) {
  Array<float> x(128, 1.0f);
  TURL_EXPECT_THROW(launch(context, unfinished_kernel, 1, 32, 0, x.data), "before its asynchronous copies are done");
}

__global__ void misaligned_kernel(const float* x) {
  begin_kernel();
  TURL_SHARED(Pack<float>, tile, [32]);
  copy_async(&tile[0][1], x);
}
TURL_TEST(a_misaligned_copy) {
  Array<float> x(128, 1.0f);
  TURL_EXPECT_THROW(launch(context, misaligned_kernel, 1, 1, 0, x.data), "no multiple of 16 bytes");
}

template <bool inside> __global__ void shared_source_kernel(float* y) {
  begin_kernel();
  TURL_SHARED(Pack<float>, tile, [64]);
  copy_async(&tile[threadIdx.x], &tile[threadIdx.x + 32], inside);
  commit_copies();
  wait_copies<0>();
  y[threadIdx.x] = tile[threadIdx.x][0];
}
TURL_TEST(a_copy_from_shared_memory) {
  Array<float> y(32, 1.0f);
  TURL_EXPECT_THROW(launch(context, shared_source_kernel<true>, 1, 32, 0, y.data), "the source is in shared memory");
  launch(context, shared_source_kernel<false>, 1, 32, 0, y.data);  // which is not read
  for (size_t i = 0; i < 32; i++) TURL_EXPECT(y[i] == 0.0f);
}

__global__ void uninitialised_kernel() {
  begin_kernel();
  TURL_SHARED(Mbarrier, full);
  wait_mbarrier(full, 0);
}
TURL_TEST(an_mbarrier_that_was_not_initialised) {
  TURL_EXPECT_THROW(launch(context, uninitialised_kernel, 1, 32, 0), "the mbarrier was not initialised");
}

__global__ void starved_kernel() {
  begin_kernel();
  TURL_SHARED(Mbarrier, full);
  if (threadIdx.x == 0) init_mbarrier(full, 1), expect_bytes(full, 16);
  __syncthreads();
  wait_mbarrier(full, 0);
}
TURL_TEST(an_mbarrier_whose_bytes_never_come) {
  TURL_EXPECT_THROW(launch(context, starved_kernel, 1, 32, 0), "32 threads wait at wait_mbarrier (faults.cu:");
}

enum class Mistake { none, arrival, bytes, unawaited };
template <Mistake mistake> __global__ void overfull_kernel(const float* x) {
  begin_kernel();
  TURL_SHARED(Pack<float>, tile, [2]);
  TURL_SHARED(Mbarrier, full);
  if (threadIdx.x > 0) return;
  init_mbarrier(full, 2), fence_mbarrier_init();
  expect_bytes(full, 16);
  if (mistake != Mistake::unawaited) arrive(full);
  if (mistake == Mistake::arrival) arrive(full);
  copy_bulk(tile, x, mistake == Mistake::bytes ? 32 : 16, full);
  if (mistake != Mistake::unawaited) wait_mbarrier(full, 0);
}
TURL_TEST(an_mbarrier_that_gets_too_much) {
  Array<float> x(8, 1.0f);
  launch(context, overfull_kernel<Mistake::none>, 1, 32, 0, x.data);
  TURL_EXPECT_THROW(launch(context, overfull_kernel<Mistake::arrival>, 1, 32, 0, x.data), "more arrivals than the mbarrier was initialised for");
  TURL_EXPECT_THROW(launch(context, overfull_kernel<Mistake::bytes>, 1, 32, 0, x.data), "more bytes are copied than the mbarrier expects");
}
TURL_TEST(a_bulk_copy_that_nobody_waits_for) {
  Array<float> x(8, 1.0f);
  TURL_EXPECT_THROW(launch(context, overfull_kernel<Mistake::unawaited>, 1, 32, 0, x.data), "ends before its bulk copies are done");
}

__global__ void beyond_kernel() {
  begin_kernel();
  init_mbarrier(dynamic_shared<Mbarrier>()[1], 1);
}
TURL_TEST(an_mbarrier_beyond_shared_memory) {
  launch(context, beyond_kernel, 1, 32, 16);
  TURL_EXPECT_THROW(launch(context, beyond_kernel, 1, 32, 8), "the mbarrier is not in shared memory");
}

template <bool fenced> __global__ void unfenced_kernel(const float* x) {
  begin_kernel();
  TURL_SHARED(Pack<float>, tile, [1]);
  TURL_SHARED(Mbarrier, full);
  if (threadIdx.x == 0) {
    init_mbarrier(full, 1);
    if (fenced) fence_mbarrier_init();
    expect_bytes(full, 16);
    copy_bulk(tile, x, 16, full);
  }
  __syncthreads();
  wait_mbarrier(full, 0);
}
TURL_TEST(an_mbarrier_that_the_copy_engine_may_not_know) {
  Array<float> x(4, 1.0f);
  launch(context, unfenced_kernel<true>, 1, 32, 0, x.data);
  TURL_EXPECT_THROW(launch(context, unfenced_kernel<false>, 1, 32, 0, x.data), "no fence_mbarrier_init() since the mbarrier was initialised");
}

}  // namespace
}  // namespace turl::test
#endif
