// How fast the device multiplies and adds, with operands in place: the ceilings of `turl bench`; see native/cpu/arithmetic_rate.cpp.
//   multiply_add_rate: a thread has four chains; enough threads hide the latency.
//   matrix_rate: a warp has four independent tiles of mma m16n8k16 (native/cuda/mma.h): 4096 operations for each step and tile. On Hopper a
//     warpgroup has 64 tiles, the sums of one product m64n128k16 in each step (warpgroup.h), with operands in shared memory.
#include "cuda/capability.h"
#include "cuda/warpgroup.h"
#include "kernels.h"

namespace turl {
namespace {

constexpr int threads = 256, chains = 4;

__global__ void multiply_add_rate_kernel(float* y, const float* x, int64_t n, int64_t steps) {
  begin_kernel();
  const int64_t first = int64_t(blockIdx.x) * threads * chains + threadIdx.x;
  float chain[chains];
#pragma unroll
  for (int c = 0; c < chains; c++) chain[c] = first + c * threads < n ? x[first + c * threads] : 0.0f;
#pragma unroll 8
  for (int64_t step = 0; step < steps; step++)
#pragma unroll
    for (int c = 0; c < chains; c++) chain[c] = fmaf(chain[c], 1 - 0x1p-10f, 0x1p-10f);
#pragma unroll
  for (int c = 0; c < chains; c++)
    if (first + c * threads < n) y[first + c * threads] = chain[c];
}

__global__ void matrix_rate_kernel(float* y, const bfloat16* a, const bfloat16* b, int64_t tiles, int64_t steps) {
  begin_kernel();
  const int lane = int(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  const int64_t first = (int64_t(blockIdx.x) * threads + threadIdx.x) / 32 * chains;
  uint32_t left[4], right[2];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const bfloat16* pair = a + (g + i % 2 * 8) * 16 + 2 * t + i / 2 * 8;
    left[i] = pack_bfloat16(pair[0], pair[1]);
  }
#pragma unroll
  for (int i = 0; i < 2; i++) right[i] = pack_bfloat16(b[(2 * t + i * 8) * 8 + g], b[(2 * t + i * 8 + 1) * 8 + g]);
  float sums[chains][4] = {};
#pragma unroll 8
  for (int64_t step = 0; step < steps; step++)
#pragma unroll
    for (int c = 0; c < chains; c++) mma_bfloat16(sums[c], left, right[0], right[1]);
#pragma unroll
  for (int c = 0; c < chains; c++)
#pragma unroll
    for (int i = 0; i < 4; i++)
      if (first + c < tiles) y[(first + c) * 128 + (g + i / 2 * 8) * 8 + 2 * t + i % 2] = sums[c][i];
}

struct HopperRate {
  static constexpr int threads = 2 * warpgroup_threads, columns = 128, tiles = 64;  // tiles of a warpgroup
  static constexpr int packs = block_packs * (1 + columns / block_sides);           // of one left block and the right ones
};

template <class Units>
__global__ void __launch_bounds__(Units::threads)
    warpgroup_rate_kernel(float* y, const bfloat16* a, const bfloat16* b, int64_t tiles, int64_t steps) {
  begin_kernel();
#ifdef TURL_WARPGROUPS
  auto* const left = dynamic_shared<Pack<bfloat16>>();
  auto* const right = left + block_packs;
  for (int side = int(threadIdx.x); side < block_sides + Units::columns; side += Units::threads)
    for (int pack = 0; pack < 2; pack++) {
      Pack<bfloat16> values;
      for (int n = 0; n < 8; n++) values[n] = side < block_sides ? a[side % 16 * 16 + pack * 8 + n] : b[(pack * 8 + n) * 8 + side % 8];
      left[side * 8 + (pack ^ side % 8)] = values;
    }
  fence_async();
  __syncthreads();
  float sums[Units::columns / 8][4] = {};
  const auto multiply = [&] {
    warpgroup_fence(sums);
    warpgroup_mma<false, false>(sums, operand<false>(left, 0), operand<false>(right, 0));
    warpgroup_commit();
    return 0;  // no operand becomes free
  };
  groups_in_turn(sums, steps, multiply, [](int) {});
  const int lane = int(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  const int64_t first = (int64_t(blockIdx.x) * Units::threads + threadIdx.x) / 32 * (Units::tiles / 4);
#pragma unroll
  for (int j = 0; j < Units::columns / 8; j++)
#pragma unroll
    for (int i = 0; i < 4; i++)
      if (first + j < tiles) y[(first + j) * 128 + (g + i / 2 * 8) * 8 + 2 * t + i % 2] = sums[j][i];
#endif
}

}  // namespace

void multiply_add_rate(Context& context, Out y, In x, int64_t steps) {
  launch(context, multiply_add_rate_kernel, blocks_for(x.size, threads * chains), threads, 0, y.as<float>(), x.as<float>(), x.size,
         steps);
}

void matrix_rate(Context& context, Out y, In a, In b, int64_t steps) {
  const int64_t tiles = y.size / 128;
  if (has_warpgroups(context))
    return launch(context, warpgroup_rate_kernel<HopperRate>, blocks_for(tiles, 2 * HopperRate::tiles), HopperRate::threads,
                  HopperRate::packs * sizeof(Pack<bfloat16>), y.as<float>(), a.as<bfloat16>(), b.as<bfloat16>(), tiles, steps);
  launch(context, matrix_rate_kernel, blocks_for(tiles, threads / 32 * chains), threads, 0, y.as<float>(), a.as<bfloat16>(),
         b.as<bfloat16>(), tiles, steps);
}

}  // namespace turl
