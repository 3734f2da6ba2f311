// Indices, barriers, shared memory, shuffles, votes, atomics and reductions.
#include <utility>
#include "cuda/reduce.h"
#include "tests/test.h"

namespace turl::test {
namespace {

__global__ void index_kernel(int* y) {
  begin_kernel();
  int block = int((blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x);
  int thread = int((threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x);
  y[block * int(blockDim.x * blockDim.y * blockDim.z) + thread] += block * 1000 + thread;
}
TURL_TEST(every_thread_runs_once) {
  Array<int> y(2 * 3 * 4 * 24);
  launch(context, index_kernel, dim3(2, 3, 4), dim3(4, 3, 2), 0, y.data);
  synchronize();
  for (int i = 0; i < 24 * 24; i++) TURL_EXPECT(y[size_t(i)] == i / 24 * 1000 + i % 24);
}

// Each thread reads what its opposite wrote, through static and through dynamic shared memory.
__global__ void reverse_kernel(float* y, const float* x, int rounds) {
  begin_kernel();
  TURL_SHARED(float, tile, [8][32]);
  float* more = dynamic_shared<float>();
  int i = int(threadIdx.x), opposite = int(blockDim.x) - 1 - i;
  float value = x[i];
  for (int round = 0; round < rounds; round++) {
    tile[i / 32][i % 32] = value;
    __syncthreads();
    more[i] = tile[opposite / 32][opposite % 32];
    __syncthreads();
    value = more[opposite] + 1;
  }
  y[blockIdx.x * blockDim.x + i] = value;
}
TURL_TEST(barriers_order_shared_memory) {
  Array<float> x(256), y(20 * 256);
  for (size_t i = 0; i < 256; i++) x[i] = float(i);
  launch(context, reverse_kernel, 20, 256, 256 * sizeof(float), y.data, x.data, 5);
  synchronize();
  for (size_t i = 0; i < y.size; i++) TURL_EXPECT(y[i] == float(i % 256) + 5);
}

__global__ void warp_kernel(int* y) {
  begin_kernel();
  int lane = int(threadIdx.x), i = 0;
  auto put = [&](int value) { y[i++ * 32 + lane] = value; };
  put(__shfl_sync(full_warp, lane * 10, 5));
  put(__shfl_sync(full_warp, lane * 10, lane + 1, 8));
  put(__shfl_xor_sync(full_warp, lane * 10, 3));
  put(__shfl_down_sync(full_warp, lane * 10, 4));
  put(__shfl_up_sync(full_warp, lane * 10, 4, 16));
  put(int(__ballot_sync(full_warp, lane % 3 == 0)));
  put(__any_sync(full_warp, lane == 31) * 2 + __all_sync(full_warp, lane < 31));
  if (lane < 16) put(__shfl_xor_sync(0xffffu, lane, 1));
  else put(__shfl_xor_sync(0xffff0000u, lane, 2));
}
TURL_TEST(shuffles_and_votes) {
  Array<int> y(8 * 32);
  launch(context, warp_kernel, 1, 32, 0, y.data);
  synchronize();
  for (int lane = 0; lane < 32; lane++) {
    auto is = [&](int row) { return y[size_t(row * 32 + lane)]; };
    TURL_EXPECT(is(0) == 50);
    TURL_EXPECT(is(1) == (lane / 8 * 8 + (lane + 1) % 8) * 10);
    TURL_EXPECT(is(2) == (lane ^ 3) * 10);
    TURL_EXPECT(is(3) == (lane < 28 ? lane + 4 : lane) * 10);
    TURL_EXPECT(is(4) == (lane % 16 >= 4 ? lane - 4 : lane) * 10);
    TURL_EXPECT(is(5) == 0x49249249);
    TURL_EXPECT(is(6) == 2);
    TURL_EXPECT(is(7) == (lane ^ (lane < 16 ? 1 : 2)));
  }
}

__global__ void atomic_kernel(int* y) {
  begin_kernel();
  TURL_SHARED(int, count);
  if (threadIdx.x == 0) count = 0;
  __syncthreads();
  atomicAdd(&count, 2);
  atomicMax(y + 1, int(blockIdx.x * blockDim.x + threadIdx.x));
  atomicOr(y + 2, 1 << threadIdx.x % 31);
  __syncthreads();
  if (threadIdx.x == 0) atomicAdd(y, count);
}
TURL_TEST(integer_atomics) {
  Array<int> y(3);
  launch(context, atomic_kernel, 50, 128, 0, y.data);
  synchronize();
  TURL_EXPECT(y[0] == 50 * 256);
  TURL_EXPECT(y[1] == 50 * 128 - 1);
  TURL_EXPECT(y[2] == 0x7fffffff);
}

__global__ void reduce_kernel(float* sum, float* maximum, const float* x) {
  begin_kernel();
  float value = x[blockIdx.x * blockDim.x + threadIdx.x];
  float total = block_sum(value), best = block_max(value);
  if (threadIdx.x == blockDim.x - 1) sum[blockIdx.x] = total, maximum[blockIdx.x] = best;
}
TURL_TEST(block_reductions) {
  for (size_t threads : {32u, 96u, 1024u}) {
    Array<float> x(3 * threads), sum(3), maximum(3);
    for (size_t i = 0; i < x.size; i++) x[i] = small(i);
    launch(context, reduce_kernel, 3, unsigned(threads), 0, sum.data, maximum.data, x.data);
    synchronize();
    for (size_t b = 0; b < 3; b++) {
      float total = 0, best = -100;
      for (size_t i = b * threads; i < (b + 1) * threads; i++) total += x[i], best = best > x[i] ? best : x[i];
      TURL_EXPECT(sum[b] == total);
      TURL_EXPECT(maximum[b] == best);
    }
  }
}

TURL_TEST(configurations_out_of_range_are_refused) {
  Array<int> y(1);
  TURL_EXPECT_THROW(launch(context, atomic_kernel, 1, 1025, 0, y.data), "a block has 1 to 1024 threads");
  TURL_EXPECT_THROW(launch(context, atomic_kernel, dim3(1, 65536), 32, 0, y.data), "the grid is at most");
  TURL_EXPECT_THROW(launch(context, atomic_kernel, 1, 32, 227 * 1024 + 1, y.data), "at most 227 KiB");
  const size_t most = std::exchange(context.shared_memory, 99 << 10);
  TURL_EXPECT_THROW(launch(context, atomic_kernel, 1, 32, 99 * 1024 + 1, y.data), "at most 99 KiB");
  context.shared_memory = most;
  launch(context, atomic_kernel, 0, 32, 0, y.data);
  TURL_EXPECT(y[0] == 0);
}

}  // namespace
}  // namespace turl::test
