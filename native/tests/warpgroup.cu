// Products of a warpgroup (sm_90a), for both directions of both operands, and the copies of blocks of a tensor that feed them, against
// plain loops; all values are exact, so results are equal.
#include "cuda/tensor_map.h"
#include "tests/test.h"

namespace turl::test {
namespace {

// The element of this side and depth of an operand that lies in blocks, from the description in warpgroup.h.
template <bool by_side> size_t place(size_t side, size_t k) {
  const size_t row = by_side ? k : side % 64, in_row = by_side ? side % 64 : k;
  return side / 64 * 4096 + row * 64 + (in_row / 8 ^ row % 8) * 8 + in_row % 8;
}

// y [64, 8 blocks], the sums of a warpgroup.
template <int blocks> __device__ void put_sums(float* y, const float (&d)[blocks][4]) {
  const int lane = int(threadIdx.x) % 32, row = int(threadIdx.x) / 32 * 16 + lane / 4, column = lane % 4 * 2;
#pragma unroll
  for (int j = 0; j < blocks; j++)
#pragma unroll
    for (int i = 0; i < 4; i++) y[(row + i / 2 * 8) * blocks * 8 + j * 8 + column + i % 2] = d[j][i];
}

// y [64, n] = a [64, 64] b [64, n], where a and b are already laid out in blocks, and are copied in bulk.
template <int n, bool a_by_side, bool b_by_side> __global__ void product_kernel(float* y, const bfloat16* a, const bfloat16* b) {
  begin_kernel();
#ifdef TURL_WARPGROUPS
  auto* const left = dynamic_shared<Pack<bfloat16>>();
  auto* const right = left + block_packs;
  TURL_SHARED(Mbarrier, full);
  if (threadIdx.x == 0) init_mbarrier(full, 1), fence_mbarrier_init();
  __syncthreads();
  if (threadIdx.x == 0) {
    expect_bytes(full, (1 + n / 64) * block_packs * 16);
    copy_bulk(left, a, block_packs * 16, full);
    copy_bulk(right, b, n / 64 * block_packs * 16, full);
  }
  wait_mbarrier(full, 0);
  float d[n / 8][4] = {};
  for (int k = 0; k < 64; k += 16) {
    warpgroup_fence(d);
    warpgroup_mma<a_by_side, b_by_side>(d, operand<a_by_side>(left, k), operand<b_by_side>(right, k));
    warpgroup_commit();
  }
  warpgroup_wait<0>(d);
  put_sums(y, d);
#endif
}

template <int n, bool a_by_side, bool b_by_side> void check(Context& context) {
  Array<bfloat16> a(64 * 64), b(n * 64);
  Array<float> y(64 * n);
  for (size_t i = 0; i < a.size; i++) a[i] = small(i);
  for (size_t i = 0; i < b.size; i++) b[i] = small(i + 7000);
  launch(context, product_kernel<n, a_by_side, b_by_side>, 1, 128, (64 + n) * 128, y.data, a.data, b.data);
  synchronize();
  for (size_t row = 0; row < 64; row++)
    for (size_t column = 0; column < n; column++) {
      float sum = 0;
      for (size_t k = 0; k < 64; k++) sum += float(a[place<a_by_side>(row, k)]) * float(b[place<b_by_side>(column, k)]);
      TURL_EXPECT(y[row * n + column] == sum);
    }
}
TURL_TEST(wgmma_along_the_depth) { check<64, false, false>(context); }
TURL_TEST(wgmma_with_b_along_the_columns) { check<128, false, true>(context); }
TURL_TEST(wgmma_with_a_along_the_rows) { check<64, true, false>(context); }
TURL_TEST(wgmma_along_the_sides) { check<128, true, true>(context); }
TURL_TEST(wgmma_of_256_columns) { check<256, false, false>(context), check<256, true, false>(context); }

// How an operand lies in memory: `blocks` blocks, the row of 128 bytes from which on the product reads, and how many rows there are from one
// block of 64 sides to the next.
struct Begins {
  int blocks, row, next;
};

// y [64, n] = a [64, 16] b [16, n] with operands that begin at rows that are not multiples of 8.
template <int n, bool a_by_side, bool b_by_side>
__global__ void from_rows_kernel(float* y, const bfloat16* a, const bfloat16* b, Begins of_a, Begins of_b) {
  begin_kernel();
#ifdef TURL_WARPGROUPS
  auto* const left = dynamic_shared<Pack<bfloat16>>();
  auto* const right = left + of_a.blocks * block_packs;
  TURL_SHARED(Mbarrier, full);
  if (threadIdx.x == 0) init_mbarrier(full, 1), fence_mbarrier_init();
  __syncthreads();
  if (threadIdx.x == 0) {
    expect_bytes(full, (of_a.blocks + of_b.blocks) * block_bytes);
    copy_bulk(left, a, of_a.blocks * block_bytes, full);
    copy_bulk(right, b, of_b.blocks * block_bytes, full);
  }
  wait_mbarrier(full, 0);
  float d[n / 8][4] = {};
  warpgroup_fence(d);
  warpgroup_mma<a_by_side, b_by_side>(d, operand<a_by_side>(left + of_a.row * 8, 0, of_a.next * 8),
                                      operand<b_by_side>(right + of_b.row * 8, 0, of_b.next * 8));
  warpgroup_commit();
  warpgroup_wait<0>(d);
  put_sums(y, d);
#endif
}

template <int n, bool a_by_side, bool b_by_side> void check_from_rows(Context& context, const Begins& of_a, const Begins& of_b) {
  Array<bfloat16> a(size_t(of_a.blocks) * 64 * 64), b(size_t(of_b.blocks) * 64 * 64);
  Array<float> y(64 * n);
  for (size_t i = 0; i < a.size; i++) a[i] = small(i);
  for (size_t i = 0; i < b.size; i++) b[i] = small(i + 7000);
  launch(context, from_rows_kernel<n, a_by_side, b_by_side>, 1, 128, size_t(of_a.blocks + of_b.blocks) * block_bytes, y.data, a.data, b.data,
         of_a, of_b);
  synchronize();
  const auto element = [](const Array<bfloat16>& x, const Begins& of, bool by_side, size_t side, size_t k) {
    const size_t row = size_t(of.row) + side / 64 * size_t(of.next) + (by_side ? k : side % 64), in_row = by_side ? side % 64 : k;
    return float(x.data[row * 64 + (in_row / 8 ^ row % 8) * 8 + in_row % 8]);
  };
  for (size_t row = 0; row < 64; row++)
    for (size_t column = 0; column < n; column++) {
      float sum = 0;
      for (size_t k = 0; k < 16; k++) sum += element(a, of_a, a_by_side, row, k) * element(b, of_b, b_by_side, column, k);
      TURL_EXPECT(y[row * n + column] == sum);
    }
}
template <bool a_by_side> void check_any_row(Context& context) {
  for (int row : {0, 1, 7, 8, 13, 30, 57}) check_from_rows<64, a_by_side, false>(context, {2, row, 64}, {1, 0, 64});
}
TURL_TEST(wgmma_of_sides_from_any_row) { check_any_row<false>(context); }
TURL_TEST(wgmma_of_depths_from_any_row) { check_any_row<true>(context); }
TURL_TEST(wgmma_of_columns_from_any_row) {
  for (int row : {0, 1, 6, 7, 8, 13, 57}) {
    check_from_rows<128, true, false>(context, {1, 0, 64}, {3, row, 64});
    check_from_rows<256, false, false>(context, {1, 0, 64}, {5, row, 64});
  }
}
// Three blocks of columns, each beginning one row after the one before.
TURL_TEST(wgmma_of_overlapping_blocks) {
  for (int row : {0, 1, 6, 7, 8, 13, 57}) check_from_rows<192, true, true>(context, {1, 0, 64}, {2, row, 1});
}

// y [4, 8, 8]: the columns of four matrices.
__global__ void store_kernel(bfloat16* y) {
  begin_kernel();
#ifdef TURL_WARPGROUPS
  TURL_SHARED(Pack<bfloat16>, columns, [32]);
  const int lane = int(threadIdx.x);
  uint32_t r[4];
  for (int i = 0; i < 4; i++) {
    const int first = lane / 4 * 8 + lane % 4 * 2;
    r[i] = pack_bfloat16(float(first + i), float(first + 1 + i));
  }
  store_matrix_4_transposed(&columns[lane], r);
  __syncwarp();
  reinterpret_cast<Pack<bfloat16>*>(y)[lane] = columns[lane];
#endif
}
TURL_TEST(matrices_stored_by_columns) {
  Array<bfloat16> y(256);
  launch(context, store_kernel, 1, 32, 0, y.data);
  synchronize();
  for (size_t i = 0; i < 4; i++)
    for (size_t column = 0; column < 8; column++)
      for (size_t row = 0; row < 8; row++) TURL_EXPECT(float(y[(i * 8 + column) * 8 + row]) == float(row * 8 + column + i));
}

__global__ void block_kernel(bfloat16* y, const __grid_constant__ TensorMap map, int i0, int i1, int i2) {
  begin_kernel();
#ifdef TURL_WARPGROUPS
  auto* const block = dynamic_shared<Pack<bfloat16>>();
  TURL_SHARED(Mbarrier, full);
  if (threadIdx.x == 0) {
    init_mbarrier(full, 1), fence_mbarrier_init();
    expect_bytes(full, block_bytes);
    copy_block(block, map, i0, i1, i2, full);
  }
  __syncthreads();
  wait_mbarrier(full, 0);
  for (int i = int(threadIdx.x); i < block_packs; i += 128) reinterpret_cast<Pack<bfloat16>*>(y)[i] = block[i];
#endif
}

// The block from (i0, i1, i2) on of x [n2, n1, n0], whose rows run along dimension `rows`; zeros beyond x.
void check_block(Context& context, const int64_t (&n)[3], int rows, int i0, int i1, int i2) {
  Array<bfloat16> x(size_t(n[0] * n[1] * n[2])), y(64 * 64);
  for (size_t i = 0; i < x.size; i++) x[i] = small(i) + 9.0f;
  launch(context, block_kernel, 1, 128, block_bytes, y.data, tensor_map(x.data, n, rows), i0, i1, i2);
  synchronize();
  for (int row = 0; row < 64; row++)
    for (int column = 0; column < 64; column++) {
      const int64_t at[3] = {i0 + column, i1 + (rows == 1 ? row : 0), i2 + (rows == 2 ? row : 0)};
      const bool inside = at[0] < n[0] && at[1] < n[1] && at[2] < n[2];
      const float expected = inside ? float(x[size_t((at[2] * n[1] + at[1]) * n[0] + at[0])]) : 0.0f;
      TURL_EXPECT(float(y[place<false>(size_t(row), size_t(column))]) == expected);
    }
}
TURL_TEST(a_block_within_a_matrix) { check_block(context, {136, 70, 1}, 1, 64, 3, 0); }
TURL_TEST(a_block_at_the_edge_of_a_matrix) { check_block(context, {72, 50, 1}, 1, 64, 20, 0); }
TURL_TEST(a_block_beyond_a_matrix) { check_block(context, {8, 8, 1}, 1, 64, 0, 0); }
TURL_TEST(a_block_across_planes) { check_block(context, {80, 9, 70}, 2, 0, 4, 10); }

__global__ void lines_kernel(bfloat16* y, const __grid_constant__ TensorMap map, int pixels, int channel, int column, int line, int image) {
  begin_kernel();
#ifdef TURL_WARPGROUPS
  auto* const rows = dynamic_shared<Pack<bfloat16>>();
  TURL_SHARED(Mbarrier, full);
  if (threadIdx.x == 0) {
    init_mbarrier(full, 1), fence_mbarrier_init();
    expect_bytes(full, pixels * 128);
    copy_lines(rows, map, channel, column, line, image, full);
  }
  __syncthreads();
  wait_mbarrier(full, 0);
  for (int i = int(threadIdx.x); i < pixels * 8; i += 128) reinterpret_cast<Pack<bfloat16>*>(y)[i] = rows[i];
#endif
}

// Lines of x [3, 6, 5, channels], one column wider than x, from places inside and outside of it.
void check_lines(Context& context, int channels, int lines, int channel, int column, int line, int image) {
  const int width = 5, height = 6, batch = 3, columns = width + 1, pixels = columns * lines;
  Array<bfloat16> x(size_t(batch * height * width * channels)), y(size_t(pixels * 64));
  for (size_t i = 0; i < x.size; i++) x[i] = small(i) + 9.0f;
  launch(context, lines_kernel, 1, 128, size_t(pixels * 128), y.data, image_map(x.data, {channels, width, height, batch}, columns, lines),
         pixels, channel, column, line, image);
  synchronize();
  for (int row = 0; row < pixels; row++)
    for (int n = 0; n < 64; n++) {
      const int c = channel + n, j = column + row % columns, i = line + row / columns;
      const bool inside = c < channels && j >= 0 && j < width && i >= 0 && i < height;
      const float expected = inside ? float(x[size_t(((image * height + i) * width + j) * channels + c)]) : 0.0f;
      TURL_EXPECT(float(y[size_t(row * 64 + (n / 8 ^ row % 8) * 8 + n % 8)]) == expected);
    }
}
TURL_TEST(lines_within_an_image) { check_lines(context, 136, 2, 64, 0, 3, 1); }
TURL_TEST(lines_from_before_an_image) { check_lines(context, 64, 4, 0, -1, -1, 2); }
TURL_TEST(lines_to_behind_an_image) { check_lines(context, 72, 5, 64, 0, 4, 0); }

#if defined(TURL_EMULATED) && !defined(TURL_RACE_CHECK)
// Products whose operands or sums are used wrongly on purpose.
enum class Mistake { none, made_up, different, unfenced_copy, unfenced_store, late_fence, early_copy, unfenced_sums, early_read, unfinished };

template <Mistake mistake> __global__ void mistaken_kernel(float* y, const bfloat16* x) {
  begin_kernel();
  auto* const tile = dynamic_shared<Pack<bfloat16>>();
  TURL_SHARED(Mbarrier, written);
  if (threadIdx.x == 0) init_mbarrier(written, 128);
  __syncthreads();
  for (int i = int(threadIdx.x); i < 2 * block_packs; i += 128)
    if (mistake == Mistake::unfenced_store) tile[i] = {};
    else copy_async(tile + i, x);
  commit_copies();
  wait_copies<0>();
  if (mistake != Mistake::unfenced_copy && mistake != Mistake::unfenced_store && mistake != Mistake::late_fence) fence_async();
  arrive(written);
  if (mistake == Mistake::late_fence) fence_async();
  wait_mbarrier(written, 0);
  float d[8][4] = {};
  if (mistake != Mistake::unfenced_sums) warpgroup_fence(d);
  const uint64_t a = mistake == Mistake::made_up ? 0 : operand<false>(tile, mistake == Mistake::different ? int(threadIdx.x) % 2 * 16 : 0);
  warpgroup_mma<false, false>(d, a, operand<false>(tile + block_packs, 0));
  warpgroup_commit();
  if (mistake == Mistake::unfinished) return;
  if (mistake == Mistake::early_copy) copy_async(tile + threadIdx.x, x), commit_copies();
  if (mistake == Mistake::early_read) y[threadIdx.x] = d[0][0];
  warpgroup_wait<0>(d);
  if (mistake != Mistake::early_read) y[threadIdx.x] = d[0][0];
}
template <Mistake mistake> float run_mistaken(Context& context) {
  Array<bfloat16> x(8, 1.0f);
  Array<float> y(128);
  launch(context, mistaken_kernel<mistake>, 1, 128, 2 * block_packs * 16, y.data, x.data);
  return y[0];
}
TURL_TEST(wgmma_without_mistakes) { TURL_EXPECT(run_mistaken<Mistake::none>(context) == 16.0f); }
TURL_TEST(wgmma_of_what_was_not_fenced) {
  TURL_EXPECT_THROW(run_mistaken<Mistake::unfenced_copy>(context), "an operand was written without fence_async()");
  TURL_EXPECT_THROW(run_mistaken<Mistake::unfenced_store>(context), "an operand was written without fence_async()");
}
TURL_TEST(wgmma_of_what_was_fenced_after_the_barrier) {
  TURL_EXPECT_THROW(run_mistaken<Mistake::late_fence>(context), "an operand was written without fence_async()");
}
TURL_TEST(wgmma_of_what_is_copied_over_before_it_has_ended) {
  TURL_EXPECT_THROW(run_mistaken<Mistake::early_copy>(context), "an operand was written without fence_async(), or is on its way");
}
TURL_TEST(wgmma_of_wrong_operands) {
  TURL_EXPECT_THROW(run_mistaken<Mistake::made_up>(context), "an operand does not come from operand()");
  TURL_EXPECT_THROW(run_mistaken<Mistake::different>(context), "the lanes name different operands");
}
TURL_TEST(wgmma_with_sums_not_fenced) {
  TURL_EXPECT_THROW(run_mistaken<Mistake::unfenced_sums>(context), "no warpgroup_fence() before the first product");
}
TURL_TEST(wgmma_sums_arrive_only_when_waited_for) { TURL_EXPECT(run_mistaken<Mistake::early_read>(context) == 0.0f); }
TURL_TEST(wgmma_that_nobody_waits_for) {
  TURL_EXPECT_THROW(run_mistaken<Mistake::unfinished>(context), "returns before its products are done");
}

template <int given, int taken> __global__ void registers_kernel() {
  begin_kernel();
  if (threadIdx.x >= 128) take_registers<taken>();
  else if constexpr (given > 0) give_registers<given>();
}
TURL_TEST(registers_that_nobody_gives) {
  launch(context, registers_kernel<88, 208>, 1, 384, 0);
  TURL_EXPECT_THROW(launch(context, registers_kernel<0, 208>, 1, 384, 0), "256 of 384 threads go on with 53248 registers");
  TURL_EXPECT_THROW(launch(context, registers_kernel<88, 216>, 1, 384, 0), "384 of 384 threads go on with 66560 registers");
}
#endif

}  // namespace
}  // namespace turl::test
