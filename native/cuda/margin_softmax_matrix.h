// The margin softmax of bfloat16 embeddings on matrix units (mma_product.h, warpgroup_product.h), for sizes that come in packs of 8.
//
// Prototypes and the gradient p of the logits are float32; as the sum of two bfloat16, high + low, they keep 16 bits. So each product passes
// over its inner dimension once for each part: a = g v_low + g v_high, and so on. The relative error of a product is then 2^-17, much smaller
// than that of g. The passes take turns every 64 deep, so that what the next pass reads again is in the L1 cache. Classes are normalised and
// split one slice at a time, which takes 4 bytes an element.
#pragma once
#include "cuda/margin_softmax_parts.h"
#include "cuda/split.h"
#include "cuda/warpgroup_product.h"

namespace turl {

// The normalised prototypes v [count, D] of the classes from `first`.
struct Slice {
  Split v;
  int64_t first;
  int count;
};

// The slice's v and the inverse norms of its groups; reads 4 bytes an element and writes 4.
template <int width> __global__ void split_prototypes_kernel(Slice slice, Problem p, Team<width> team) {
  begin_kernel();
  const int64_t at = team.begin(int64_t(slice.count) * p.groups);
  const float* const w = p.w + slice.first * p.size + at;
  const float inverse = team.inverse_norm(w, p.epsilon);
  if (team.size > 0 && team.lane() == 0) p.inverse[slice.first * p.groups + team.group()] = inverse;
  team.each([&](int e) {
    const auto x = *reinterpret_cast<const Group<float, width>*>(w + e);
    Group<bfloat16, width> high, low;
#pragma unroll
    for (int n = 0; n < width; n++) {
      const float v = x.v[n] * inverse;
      high.v[n] = bfloat16(v), low.v[n] = Split::rest(v);
    }
    *reinterpret_cast<Group<bfloat16, width>*>(slice.v.high + at + e) = high;
    *reinterpret_cast<Group<bfloat16, width>*>(slice.v.low + at + e) = low;
  });
}

// The inner dimension of a product in `passes` passes that take turns: for a position k of all passes, the pass and the position in it.
template <int passes> struct InTurns {
  static constexpr int turn = 64;
  int depth;
  __device__ int all() const { return ceil_div(depth, turn) * turn * passes; }
  __device__ static int pass(int k) { return k / turn % passes; }
  __device__ static int at(int k) { return k / (turn * passes) * turn + k % turn; }
};

// Calls use(sums) with the logits of a tile of samples x classes of the slice.
template <class Units, class Use>
__device__ inline void matrix_logits(const bfloat16* g, const Slice& slice, const Problem& p, int first_sample, int first_class,
                                     Use use) {
  const int size = p.size, samples = int(p.samples);
  const InTurns<2> inner{size};
  Units::template product<Fast::depth, Fast::depth>(
      0, inner.all(),
      [&](Pack<bfloat16>* to, int, int side, int k) {
        const int i = first_sample + side, e = inner.at(k);
        const bool inside = i < samples && e < size;
        copy_async_cached(to, inside ? g + int64_t(i) * size + e : g, inside);
      },
      [&](Pack<bfloat16>* to, int, int side, int k) {
        const int j = first_class + side, e = inner.at(k);
        const bfloat16* const v = inner.pass(k) == 0 ? slice.v.low : slice.v.high;
        const bool inside = j < slice.count && e < size;
        copy_async(to, inside ? v + int64_t(j) * size + e : v, inside);
      },
      use);
}

// Grid [class tiles, sample tiles]: maximum and sum [class tiles, B] over the classes of a tile other than the label, in the rows of the
// slice; target [B] the label's logit.
template <class Units>
__global__ void __launch_bounds__(Units::threads, Units::blocks(true))
    margin_softmax_forward_matrix_kernel(float* maximum, float* sum, float* target, const bfloat16* g, Slice slice, Problem p,
                                         const int32_t* labels) {
  begin_kernel();
  const int first_sample = int(blockIdx.y) * Units::rows, first_class = int(blockIdx.x) * Units::columns, samples = int(p.samples);
  const int64_t to = (slice.first / Units::columns + blockIdx.x) * samples + first_sample;
  const auto put = [&](int row, const Running& running) {
    if (first_sample + row < samples) maximum[to + row] = running.maximum, sum[to + row] = running.sum;
  };
  // f(row, running) for each row, with what the four lanes that share the row found in it
  const auto each_row = [&](auto& sums, auto f) {
    sums.each_row([&](int m, int half) {
      const int row = sums.row(m, half), i = first_sample + row;
      const int64_t label = i < samples ? labels[i] - slice.first : -1;
      Running running;
      const auto add = [&](int j, float a) {
        if (i >= samples || j >= slice.count) return;
        if (j == label) target[i] = a;
        else running.add(a, 1.0f);
      };
      sums.pairs(m, half, [&](int column, float first, float second) {
        add(first_class + column, first), add(first_class + column + 1, second);
      });
      running.merge_lanes<2>();
      if (threadIdx.x % 4 == 0) f(row, running);
    });
  };
  matrix_logits<Units>(g, slice, p, first_sample, first_class, [&](auto& sums) {
    if constexpr (Units::row_warps == 1) {
      each_row(sums, put);
    } else {
      TURL_SHARED(float, maxima, [2][Units::rows]);  // of each row, from both warps that share it
      TURL_SHARED(float, parts, [2][Units::rows]);
      each_row(sums, [&](int row, const Running& running) {
        maxima[threadIdx.x / 64][row] = running.maximum, parts[threadIdx.x / 64][row] = running.sum;
      });
      __syncthreads();
      Running running{maxima[0][threadIdx.x], parts[0][threadIdx.x]};
      running.add(maxima[1][threadIdx.x], parts[1][threadIdx.x]);
      put(int(threadIdx.x), running);
    }
  });
}

// p [B, stride] of the slice's classes, zeros from `count` to `stride`, which is a multiple of 8; grid as in forward. Writes 4 bytes a
// logit.
template <class Units>
__global__ void __launch_bounds__(Units::threads, Units::blocks(true))
    softmax_gradient_matrix_kernel(Split out, const bfloat16* g, Slice slice, Problem p, const int32_t* labels, const float* dloss,
                                   const float* loss, const float* logsumexp, int stride) {
  begin_kernel();
  const int first_sample = int(blockIdx.y) * Units::rows, first_class = int(blockIdx.x) * Units::columns;
  matrix_logits<Units>(g, slice, p, first_sample, first_class, [&](auto& sums) {
    sums.each_row([&](int m, int half) {
      const int i = first_sample + sums.row(m, half);
      const bool inside = i < p.samples;
      const int label = inside ? int(labels[i] - slice.first) : -1;
      const float scale = inside ? dloss[i] : 0.0f, sum = inside ? logsumexp[i] : 0.0f;
      const float own = inside ? scale * expm1f(-loss[i]) : 0.0f;  // keeps its digits when the softmax is nearly 1
      const auto gradient = [&](int j, float a) {
        if (!inside || j >= slice.count) return 0.0f;
        return j == label ? own : scale * expf(a - sum);
      };
      const auto put = [&](bfloat16* to) {
        sums.packs(m, half, [&](int column, const Pack<bfloat16>& pack) {
          const int j = first_class + column;
          if (inside) put_pack(to + int64_t(i) * stride + j, pack, stride - j);
        });
      };
      sums.pairs(m, half, [&](int column, float& first, float& second) {
        first = gradient(first_class + column, first), second = gradient(first_class + column + 1, second);
      });
      put(out.high);
      sums.pairs(m, half, [](int, float& first, float& second) { first = Split::rest(first), second = Split::rest(second); });
      put(out.low);
    });
  });
}

// dv [count, D] = p^T g; rows are classes, columns elements; grid [class tiles, element tiles].
template <class Units>
__global__ void __launch_bounds__(Units::threads, Units::blocks(true))
    prototype_gradient_matrix_kernel(float* dv, Split p, const bfloat16* g, int samples, int count, int stride, int size) {
  begin_kernel();
  const int first_class = int(blockIdx.x) * Units::rows, first_e = int(blockIdx.y) * Units::columns;
  const InTurns<2> inner{samples};
  Units::template product<Fast::side, Fast::side>(
      0, inner.all(),
      [&](Pack<bfloat16>* to, int, int side, int k) {
        const int j = first_class + side, i = inner.at(k);
        const bfloat16* const part = inner.pass(k) == 0 ? p.low : p.high;
        const bool inside = j < stride && i < samples;
        copy_async(to, inside ? part + int64_t(i) * stride + j : part, inside);
      },
      [&](Pack<bfloat16>* to, int, int side, int k) {
        const int e = first_e + side, i = inner.at(k);
        const bool inside = e < size && i < samples;
        copy_async_cached(to, inside ? g + int64_t(i) * size + e : g, inside);
      },
      [&](auto& sums) {
        sums.each_row([&](int m, int half) {
          const int j = first_class + sums.row(m, half);
          sums.pairs(m, half, [&](int column, float first, float second) {
            const int e = first_e + column;
            if (j < count) put_pair(dv + int64_t(j) * size + e, first, second, size - e);
          });
        });
      });
}

// partial [splits, B, D] (+)= p v = p_low v_high + p_high v_high + p_high v_low over a part of the slice's classes; rows
// are samples, columns elements; grid [element tiles, sample tiles, splits].
template <class Units>
__global__ void __launch_bounds__(Units::threads, Units::blocks(true))
    embedding_gradient_matrix_kernel(float* partial, Split p, Slice slice, int samples, int stride, int size, int add) {
  begin_kernel();
  const int first_e = int(blockIdx.x) * Units::columns, first_sample = int(blockIdx.y) * Units::rows;
  const int part = ceil_div(stride / 8, splits) * 8, begin = min(stride, int(blockIdx.z) * part);
  const int length = min(stride - begin, part);
  const InTurns<3> inner{length};
  Units::template product<Fast::depth, Fast::side>(
      0, inner.all(),
      [&](Pack<bfloat16>* to, int, int side, int k) {
        const int i = first_sample + side, j = begin + inner.at(k);
        const bfloat16* const factor = inner.pass(k) == 0 ? p.low : p.high;
        const bool inside = i < samples && inner.at(k) < length;
        copy_async_cached(to, inside ? factor + int64_t(i) * stride + j : factor, inside);
      },
      [&](Pack<bfloat16>* to, int, int side, int k) {
        const int e = first_e + side, j = begin + inner.at(k);
        const bfloat16* const factor = inner.pass(k) == 2 ? slice.v.low : slice.v.high;
        const bool inside = e < size && inner.at(k) < length && j < slice.count;
        copy_async_cached(to, inside ? factor + int64_t(j) * size + e : factor, inside);
      },
      [&](auto& sums) {
        sums.each_row([&](int m, int half) {
          const int i = first_sample + sums.row(m, half);
          sums.pairs(m, half, [&](int column, float first, float second) {
            const int e = first_e + column;
            if (i >= samples || e >= size) return;
            float* const to = partial + (int64_t(blockIdx.z) * samples + i) * size + e;
            put_pair(to, (add ? to[0] : 0.0f) + first, (add ? to[1] : 0.0f) + second, 2);
          });
        });
      });
}

}  // namespace turl
