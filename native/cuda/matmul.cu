// Matrix product: y[i] = op(a[i]) op(b[i]) for i < batch, op transposing or not; op(a) [m, k], op(b) [k, n], y [m, n], sums in
// float32. A block computes a tile of y: on matrix units (mma_product.h, warpgroup_product.h) for bfloat16 whose rows come in packs of 8, else
// a tile of 128 x 128 in float32. Where tiles are so few that many multiprocessors would have none, several blocks share a tile: each sums
// over a part of k, and the parts are added afterwards. Where one of a, b and y is bfloat16, 16 bits of the float32 ones are enough: on
// matrix units these become sums of two bfloat16 (split.h), and the product makes two or three passes over k, the smallest terms first.
#include <algorithm>
#include "cuda/add_parts.h"
#include "cuda/map.h"
#include "cuda/split.h"
#include "cuda/warpgroup_product.h"
#include "kernels.h"

namespace turl {
namespace {

// y is [m, n] for each matrix and each part. A part is `part_depth`, a multiple of 64, of the inner dimension, whose length is k times `passes`.
struct MatmulSizes {
  int m, n, k, batch, part_depth, passes = 1;
  __device__ int matrix() const { return int(blockIdx.z) % batch; }
  __device__ int begin() const { return int(blockIdx.z) / batch * part_depth; }
  __device__ int end() const { return min(k * passes, begin() + part_depth); }
};
// The array that an operand is in each pass over k.
struct Passes {
  const bfloat16 *first, *second, *third;
  __device__ const bfloat16* operator[](int pass) const { return pass == 0 ? first : pass == 1 ? second : third; }
};

__global__ void split_kernel(Split to, const float* x, int64_t n) {
  begin_kernel();
  const int64_t i = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * 4;
  if (i >= n) return;
  const auto four = *reinterpret_cast<const Group<float, 4>*>(x + i);
  Group<bfloat16, 4> high, low;
#pragma unroll
  for (int j = 0; j < 4; j++) high.v[j] = bfloat16(four.v[j]), low.v[j] = Split::rest(four.v[j]);
  *reinterpret_cast<Group<bfloat16, 4>*>(to.high + i) = high;
  *reinterpret_cast<Group<bfloat16, 4>*>(to.low + i) = low;
}

// A 128 x 128 tile in float32 by 256 threads. Pieces of both operands, 8 deep, pass through shared memory; while one is multiplied, the threads
// read the next one into registers. Thread t has 8 x 8 sums: rows 4 (t / 16) + {0, 1, 2, 3} and the same + 64; columns likewise from t % 16.
constexpr int plain_side = 128, plain_depth = 8, plain_threads = 256;
using PlainPiece = float[plain_depth][plain_side + 4];

// The elements of an operand that a thread reads. They lie some sides apart, or, if sides are contiguous in memory, some depth apart.
template <class T, Fast fast> struct PlainOperand {
  static constexpr int count = plain_side * plain_depth / plain_threads;
  static constexpr int next_side = fast == Fast::depth ? plain_threads / plain_depth : 0;
  static constexpr int next_depth = fast == Fast::depth ? 0 : plain_threads / plain_side;
  float next[count];
  const T* from;
  int depth, sides, stride;  // `sides`: how many there are from the thread's first one on

  __device__ static int own_side() { return fast == Fast::depth ? int(threadIdx.x) / plain_depth : int(threadIdx.x) % plain_side; }
  // From side `first` of `sides` and depth k on; `stride` separates neighbours that are not contiguous.
  __device__ PlainOperand(const T* x, int first, int sides, int k, int stride) : stride(stride) {
    const int side = own_side();
    depth = fast == Fast::depth ? int(threadIdx.x) % plain_depth : int(threadIdx.x) / plain_side;
    this->sides = sides - first - side;
    from = x + (fast == Fast::depth ? int64_t(first + side) * stride + k + depth : int64_t(k + depth) * stride + first + side);
  }
  // Reads the next piece, of which only `left` is inside of the inner dimension.
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

// Reads twice four neighbours, 64 apart.
__device__ inline void take(float (&to)[8], const float* from) {
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const float4 four = *reinterpret_cast<const float4*>(from + half * 64);
    to[half * 4] = four.x, to[half * 4 + 1] = four.y, to[half * 4 + 2] = four.z, to[half * 4 + 3] = four.w;
  }
}

template <class R, class T, bool transpose_a, bool transpose_b>
__global__ void __launch_bounds__(plain_threads, 2) matmul_kernel(R* y, const T* a, const T* b, MatmulSizes s) {
  begin_kernel();
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
    __syncthreads();  // all have also finished reading the other piece, which is overwritten next
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
    matmul_matrix_kernel(R* y, Passes a, Passes b, MatmulSizes s) {
  begin_kernel();
  const int first_row = int(blockIdx.x) * Units::rows, first_column = int(blockIdx.y) * Units::columns;
  const int64_t a_matrix = int64_t(s.matrix()) * s.m * s.k, b_matrix = int64_t(s.matrix()) * s.k * s.n;
  y += int64_t(blockIdx.z) * s.m * s.n;
  const auto pass = [&](int k) { return int(k >= s.k) + int(k >= 2 * s.k); };
  Units::template product<transpose_a ? Fast::side : Fast::depth, transpose_b ? Fast::depth : Fast::side>(
      s.begin(), s.end(),
      [&](Pack<bfloat16>* to, int, int side, int at) {
        const int row = first_row + side, k = at - pass(at) * s.k;
        const bfloat16* const from = a[pass(at)] + a_matrix;
        copy_async(to, transpose_a ? from + row + int64_t(k) * s.m : from + k + int64_t(row) * s.k, row < s.m && at < s.k * s.passes);
      },
      [&](Pack<bfloat16>* to, int, int side, int at) {
        const int column = first_column + side, k = at - pass(at) * s.k;
        const bfloat16* const from = b[pass(at)] + b_matrix;
        copy_async(to, transpose_b ? from + k + int64_t(column) * s.k : from + column + int64_t(k) * s.n, column < s.n && at < s.k * s.passes);
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

// Calls f with whether a and b are transposed.
template <class F> void with_transposes(bool a, bool b, F f) {
  if (a) b ? f.template operator()<true, true>() : f.template operator()<true, false>();
  else b ? f.template operator()<false, true>() : f.template operator()<false, false>();
}

// The depth of a part of k, for a product of so many tiles. There are as many parts as give each of an H100's multiprocessors `blocks` blocks,
// but each is at least 256 deep.
int64_t part_depth(int64_t k, int64_t tiles, int64_t blocks) {
  const int64_t parts = std::clamp<int64_t>(h100_multiprocessors * blocks / std::max<int64_t>(tiles, 1), 1, std::max<int64_t>(k / 256, 1));
  return ceil_div(ceil_div(std::max<int64_t>(k, 1), parts), int64_t(64)) * 64;
}

// The sizes of a product, and how its tiles are distributed over blocks, for both ways to compute it.
struct Product {
  int64_t batch, m, n, k;
  bool transpose_a, transpose_b;
  int64_t passes = 1;

  // `whole` and `in_parts` are the same kernel, with results of type R or float. begun(x, elements) is operand x from that element on.
  template <class R, class X, class W, class P, class Begun>
  void in_tiles(Context& context, R* y, X a, X b, W whole, P in_parts, int rows, int columns, int threads, int shared_bytes, int blocks,
                Begun begun) const {
    const dim3 tiles{unsigned(ceil_div<int64_t>(m, rows)), unsigned(ceil_div<int64_t>(n, columns)), 1};
    const int64_t all = k * passes, depth = part_depth(all, tiles.x * int64_t(tiles.y) * batch, blocks), parts = ceil_div(all, depth);
    const auto sizes = [&](int64_t count) { return MatmulSizes{int(m), int(n), int(k), int(count), int(depth), int(passes)}; };
    if (parts > 1) {
      auto* partial = static_cast<float*>(context.scratch(size_t(parts * batch * m * n) * sizeof(float)));
      launch(context, in_parts, dim3{tiles.x, tiles.y, unsigned(parts * batch)}, threads, shared_bytes, partial, a, b, sizes(batch));
      return add_parts(context, y, partial, parts, batch * m * n);
    }
    // A grid has at most 65,535 matrices: longer batches go in several launches.
    constexpr int64_t most = 65535;
    for (int64_t first = 0; first < batch; first += most) {
      const int64_t count = std::min(batch - first, most);
      launch(context, whole, dim3{tiles.x, tiles.y, unsigned(count)}, threads, shared_bytes, y + first * m * n, begun(a, first * m * k),
             begun(b, first * k * n), sizes(count));
    }
  }
  // Whether the rows of bfloat16 operands at these addresses come in packs.
  template <class A, class B> bool in_packs(const A* a, const B* b) const {
    return packs<bfloat16>(transpose_a ? m : k, a) && packs<bfloat16>(transpose_b ? k : n, b);
  }
  template <class R> void on_matrix_units(Context& context, R* y, Passes a, Passes b) const {
    const auto begun = [](const Passes& x, int64_t by) { return Passes{x.first + by, x.second + by, x.third + by}; };
    with_transposes(transpose_a, transpose_b, [&]<bool a_transposed, bool b_transposed>() {
      with_matrix_units(context, n, [&]<class Units>() {
        in_tiles(context, y, a, b, matmul_matrix_kernel<Units, R, a_transposed, b_transposed>,
                 matmul_matrix_kernel<Units, float, a_transposed, b_transposed>, Units::rows, Units::columns, Units::threads,
                 Units::shared_bytes, Units::blocks(true), begun);
      });
    });
  }
  template <class R, class T> void plain(Context& context, R* y, const T* a, const T* b) const {
    with_transposes(transpose_a, transpose_b, [&]<bool a_transposed, bool b_transposed>() {
      in_tiles(context, y, a, b, matmul_kernel<R, T, a_transposed, b_transposed>, matmul_kernel<float, T, a_transposed, b_transposed>,
               plain_side, plain_side, plain_threads, 0, 2, [](const T* x, int64_t by) { return x + by; });
    });
  }
  template <class R, class T> void of_one_type(Context& context, R* y, const T* a, const T* b) const {
    if constexpr (std::is_same_v<T, bfloat16>)
      if (in_packs(a, b)) return on_matrix_units(context, y, {a, a, a}, {b, b, b});
    plain(context, y, a, b);
  }

  // One of a, b and y is bfloat16, another float32.
  template <class R> void mixed(Context& context, R* y, In a, In b) {
    if (!packs<bfloat16>(k, a.data, b.data) || !in_packs(a.data, b.data))
      return plain(context, y, widened(context, a), widened(context, b));
    const Split p = halves(context, a), q = halves(context, b);
    passes = 1 + (p.low != nullptr) + (q.low != nullptr);
    if (passes == 3) return on_matrix_units(context, y, {p.low, p.high, p.high}, {q.high, q.low, q.high});
    if (p.low) return on_matrix_units(context, y, {p.low, p.high, p.high}, {q.high, q.high, q.high});
    on_matrix_units(context, y, {p.high, p.high, p.high}, {q.low, q.high, q.high});
  }

 private:
  // x as two arrays of bfloat16; if x is bfloat16, x itself, and `low` is null.
  static Split halves(Context& context, In x) {
    if (x.dtype == DType::bfloat16) return {const_cast<bfloat16*>(x.as<bfloat16>()), nullptr};
    auto* const memory = static_cast<bfloat16*>(context.scratch(size_t(2 * x.size) * sizeof(bfloat16)));
    const Split split{memory, memory + x.size};
    launch(context, split_kernel, blocks_for(x.size, 256 * 4), 256, 0, split, x.as<float>(), x.size);
    return split;
  }
  static const float* widened(Context& context, In x) {
    if (x.dtype == DType::float32) return x.as<float>();
    auto* const memory = static_cast<float*>(context.scratch(size_t(x.size) * sizeof(float)));
    map(context, Identity{}, x.size, memory, x.as<bfloat16>());
    return memory;
  }
};

}  // namespace

void matmul(Context& context, Out y, In a, In b, int64_t batch, int64_t m, int64_t n, int64_t k, int64_t transpose_a,
            int64_t transpose_b) {
  if (y.size == 0) return;
  Product product{batch, m, n, k, transpose_a != 0, transpose_b != 0};
  const bool to_float = y.dtype == DType::float32;
  if (a.dtype != b.dtype || (a.dtype == DType::float32 && !to_float))
    return to_float ? product.mixed(context, y.as<float>(), a, b) : product.mixed(context, y.as<bfloat16>(), a, b);
  with_float(a.dtype, [&]<class T>() {
    if (to_float) product.of_one_type(context, y.as<float>(), a.as<T>(), b.as<T>());
    else product.of_one_type(context, y.as<T>(), a.as<T>(), b.as<T>());
  });
}

}  // namespace turl
