// Matrix product: y[i] = op(a[i]) op(b[i]) for i < batch, op transposing or not; op(a) [m, k], op(b) [k, n], y [m, n], sums in
// float32. One block computes a tile of y: on matrix units (matrix_product.h, warpgroup_product.h) for bfloat16 whose rows come in
// packs of 8, else 128 x 128; of an operand it reads the tile's side times k values, once per tile. Where there are so few tiles that
// most multiprocessors would have none, the blocks of a tile share k: each leaves a part of the sum, which are added afterwards.
#include <algorithm>
#include "cuda/add_parts.h"
#include "cuda/warpgroup_product.h"
#include "kernels.h"

namespace turl {
namespace {

// y is [m, n] for each matrix of each part; a part has `part_depth` of k, a multiple of 64.
struct MatmulSizes {
  int m, n, k, batch, part_depth;
  __device__ int matrix() const { return int(blockIdx.z) % batch; }
  __device__ int begin() const { return int(blockIdx.z) / batch * part_depth; }
  __device__ int end() const { return min(k, begin() + part_depth); }
};

// A 128 x 128 tile in float32 by 256 threads. Pieces of both operands pass through shared memory 8 deep; while one is multiplied, the
// threads read the next into registers. Thread t has the sums of 8 x 8: rows 4 (t / 16) + {0, 1, 2, 3} and the same + 64, columns so with
// t % 16.
constexpr int plain_side = 128, plain_depth = 8, plain_threads = 256;
using PlainPiece = float[plain_depth][plain_side + 4];

// What a thread reads of an operand: places some sides apart or, if the sides are contiguous, some of the depth.
template <class T, Fast fast> struct PlainOperand {
  static constexpr int count = plain_side * plain_depth / plain_threads;
  static constexpr int next_side = fast == Fast::depth ? plain_threads / plain_depth : 0;
  static constexpr int next_depth = fast == Fast::depth ? 0 : plain_threads / plain_side;
  float next[count];
  const T* from;
  int depth, sides, stride;  // `sides` that there are from the thread's own on

  __device__ static int own_side() { return fast == Fast::depth ? int(threadIdx.x) / plain_depth : int(threadIdx.x) % plain_side; }
  // From side `first` of `sides` and depth k on; `stride` separates neighbours that are not contiguous.
  __device__ PlainOperand(const T* x, int first, int sides, int k, int stride) : stride(stride) {
    const int side = own_side();
    depth = fast == Fast::depth ? int(threadIdx.x) % plain_depth : int(threadIdx.x) / plain_side;
    this->sides = sides - first - side;
    from = x + (fast == Fast::depth ? int64_t(first + side) * stride + k + depth : int64_t(k + depth) * stride + first + side);
  }
  // The next piece, of which `left` is within the depth.
  __device__ void read(int left) {
#pragma unroll
    for (int i = 0; i < count; i++)
      next[i] = i * next_side < sides && depth + i * next_depth < left
                    ? float(from[int64_t(i * (fast == Fast::depth ? next_side : next_depth)) * stride])
                    : 0.0f;
    from += fast == Fast::depth ? int64_t(plain_depth) : int64_t(plain_depth) * stride;
  }
  __device__ void put(PlainPiece& piece) const {
    const int side = own_side();
#pragma unroll
    for (int i = 0; i < count; i++) piece[depth + i * next_depth][side + i * next_side] = next[i];
  }
};

// Four neighbours twice, 64 apart.
__device__ inline void take(float (&to)[8], const float* from) {
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const float4 four = *reinterpret_cast<const float4*>(from + half * 64);
    to[half * 4] = four.x, to[half * 4 + 1] = four.y, to[half * 4 + 2] = four.z, to[half * 4 + 3] = four.w;
  }
}

template <class R, class T, bool transpose_a, bool transpose_b>
__global__ void __launch_bounds__(plain_threads, 2) matmul_kernel(R* y, const T* a, const T* b, MatmulSizes s) {
  TURL_SHARED(PlainPiece, left, [2]);
  TURL_SHARED(PlainPiece, right, [2]);
  const int first_row = int(blockIdx.x) * plain_side, first_column = int(blockIdx.y) * plain_side;
  a += int64_t(s.matrix()) * s.m * s.k, b += int64_t(s.matrix()) * s.k * s.n;
  PlainOperand<T, transpose_a ? Fast::side : Fast::depth> rows(a, first_row, s.m, s.begin(), transpose_a ? s.m : s.k);
  PlainOperand<T, transpose_b ? Fast::depth : Fast::side> columns(b, first_column, s.n, s.begin(), transpose_b ? s.k : s.n);
  const int row = int(threadIdx.x) / 16 * 4, column = int(threadIdx.x) % 16 * 4;
  float sums[8][8] = {};
  int piece = 0;
  int left_over = s.end() - s.begin();
  rows.read(left_over), columns.read(left_over);
#pragma unroll 1
  for (; left_over > 0; left_over -= plain_depth, piece ^= 1) {
    rows.put(left[piece]), columns.put(right[piece]);
    __syncthreads();  // and all are done with the other piece, which comes next
    rows.read(left_over - plain_depth), columns.read(left_over - plain_depth);
#pragma unroll 2
    for (int depth = 0; depth < plain_depth; depth++) {
      float p[8], q[8];
      take(p, left[piece][depth] + row), take(q, right[piece][depth] + column);
#pragma unroll
      for (int i = 0; i < 8; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) sums[i][j] = fmaf(p[i], q[j], sums[i][j]);
    }
  }
  using Four = Group<R, 4>;
  y += int64_t(blockIdx.z) * s.m * s.n;
#pragma unroll
  for (int i = 0; i < 8; i++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int at_row = first_row + row + i / 4 * 64 + i % 4, at_column = first_column + column + half * 64;
      if (at_row >= s.m) continue;
      Four four;
#pragma unroll
      for (int j = 0; j < 4; j++) four.v[j] = R(sums[i][half * 4 + j]);
      R* const to = y + int64_t(at_row) * s.n + at_column;
      if (at_column + 4 <= s.n && reinterpret_cast<uintptr_t>(to) % sizeof(Four) == 0) *reinterpret_cast<Four*>(to) = four;
      else
#pragma unroll
        for (int j = 0; j < 4; j++)
          if (at_column + j < s.n) to[j] = four.v[j];
    }
}

template <class Units, class R, bool transpose_a, bool transpose_b>
__global__ void __launch_bounds__(Units::threads, Units::blocks(true))
    matmul_matrix_kernel(R* y, const bfloat16* a, const bfloat16* b, MatmulSizes s) {
  const int first_row = int(blockIdx.x) * Units::rows, first_column = int(blockIdx.y) * Units::columns;
  a += int64_t(s.matrix()) * s.m * s.k, b += int64_t(s.matrix()) * s.k * s.n, y += int64_t(blockIdx.z) * s.m * s.n;
  Units::template product<transpose_a ? Fast::side : Fast::depth, transpose_b ? Fast::depth : Fast::side>(
      s.begin(), s.end(),
      [&](Pack<bfloat16>* to, int, int side, int k) {
        const int row = first_row + side;
        copy_async(to, transpose_a ? a + row + int64_t(k) * s.m : a + k + int64_t(row) * s.k, row < s.m && k < s.k);
      },
      [&](Pack<bfloat16>* to, int, int side, int k) {
        const int column = first_column + side;
        copy_async(to, transpose_b ? b + k + int64_t(column) * s.k : b + column + int64_t(k) * s.n, column < s.n && k < s.k);
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

// The parts of k for a product of so many tiles: as many as it takes to give each of an H100's multiprocessors `blocks` tiles, though
// each at least 256 deep.
int64_t part_depth(int64_t k, int64_t tiles, int64_t blocks) {
  const int64_t parts = std::clamp<int64_t>(h100_multiprocessors * blocks / std::max<int64_t>(tiles, 1), 1, std::max<int64_t>(k / 256, 1));
  return ceil_div(ceil_div(std::max<int64_t>(k, 1), parts), int64_t(64)) * 64;
}

template <class R, class T>
void launch_matmul(Context& context, R* y, const T* a, const T* b, int64_t batch, int64_t m, int64_t n, int64_t k, bool transpose_a,
                   bool transpose_b) {
  // `whole` and `in_parts` are one kernel, whose results are R or float.
  const auto in_tiles = [&](auto whole, auto in_parts, int rows, int columns, int threads, int shared_bytes, int blocks) {
    const dim3 tiles{unsigned(ceil_div<int64_t>(m, rows)), unsigned(ceil_div<int64_t>(n, columns)), 1};
    const int64_t depth = part_depth(k, tiles.x * int64_t(tiles.y) * batch, blocks), parts = ceil_div(k, depth);
    if (parts > 1) {
      auto* partial = static_cast<float*>(context.scratch(size_t(parts * batch * m * n) * sizeof(float)));
      launch(context, in_parts, dim3{tiles.x, tiles.y, unsigned(parts * batch)}, threads, shared_bytes, partial, a, b,
             MatmulSizes{int(m), int(n), int(k), int(batch), int(depth)});
      return add_parts(context, y, partial, parts, batch * m * n);
    }
    // A grid has at most 65,535 matrices: longer batches go in several launches.
    constexpr int64_t most = 65535;
    for (int64_t first = 0; first < batch; first += most) {
      const int64_t count = std::min(batch - first, most);
      launch(context, whole, dim3{tiles.x, tiles.y, unsigned(count)}, threads, shared_bytes, y + first * m * n, a + first * m * k,
             b + first * k * n, MatmulSizes{int(m), int(n), int(k), int(count), int(depth)});
    }
  };
  with_transposes(transpose_a, transpose_b, [&]<bool a_transposed, bool b_transposed>() {
    if constexpr (std::is_same_v<T, bfloat16>)
      if (packs<bfloat16>(a_transposed ? m : k, a) && packs<bfloat16>(b_transposed ? k : n, b))
        return with_matrix_units(context, n, [&]<class Units>() {
          in_tiles(matmul_matrix_kernel<Units, R, a_transposed, b_transposed>,
                   matmul_matrix_kernel<Units, float, a_transposed, b_transposed>, Units::rows, Units::columns, Units::threads,
                   Units::shared_bytes, Units::blocks(true));
        });
    in_tiles(matmul_kernel<R, T, a_transposed, b_transposed>, matmul_kernel<float, T, a_transposed, b_transposed>, plain_side,
             plain_side, plain_threads, 0, 2);
  });
}

}  // namespace

void matmul(Context& context, Out y, In a, In b, int64_t batch, int64_t m, int64_t n, int64_t k, int64_t transpose_a,
            int64_t transpose_b) {
  if (y.size == 0) return;
  with_float(a.dtype, [&]<class T>() {
    if (y.dtype == DType::float32)
      launch_matmul(context, y.as<float>(), a.as<T>(), b.as<T>(), batch, m, n, k, transpose_a != 0, transpose_b != 0);
    else launch_matmul(context, y.as<T>(), a.as<T>(), b.as<T>(), batch, m, n, k, transpose_a != 0, transpose_b != 0);
  });
}

}  // namespace turl
