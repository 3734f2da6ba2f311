// Optimiser steps in one pass over memory (native/optimizer.h) and the gradient's norm, of many parameters in one launch: a network
// has hundreds, most of them small, and a launch for each would take longer than the work.
#include "cuda/reduce.h"
#include "kernels.h"
#include "optimizer.h"

namespace turl {
namespace {
constexpr int threads = 256, per_block = 4096;
constexpr int most_tensors = 48;  // of one launch: their addresses are kernel parameters, which are limited to 4 KiB

// `arrays` arrays for each of some tensors. The first blocks of a launch belong to the first tensor, the next ones to the next tensor, and so
// on; each block has `per_block` elements.
template <int arrays> struct Tensors {
  float* at[arrays][most_tensors];
  int64_t size[most_tensors];
  int first_block[most_tensors + 1];
  int count;
  // The tensor of this block, and the elements of it that the block has.
  TURL_BOTH int find(int block, int64_t& begin, int64_t& end) const {
    int tensor = 0;
    while (first_block[tensor + 1] <= block) tensor++;
    begin = int64_t(block - first_block[tensor]) * per_block;
    end = begin + per_block < size[tensor] ? begin + per_block : size[tensor];
    return tensor;
  }
};

// Calls f(tensors, number of the first tensor, blocks of the launches before) for each launch that is needed.
template <int arrays, class Size, class At, class F> void each_launch(size_t count, Size&& size_of, At&& at, F&& f) {
  int64_t blocks_before = 0;
  for (size_t begin = 0; begin < count; begin += most_tensors) {
    Tensors<arrays> tensors = {};
    tensors.count = int(std::min(count - begin, size_t(most_tensors)));
    for (int i = 0; i < tensors.count; i++) {
      for (int array = 0; array < arrays; array++) tensors.at[array][i] = at(array, begin + size_t(i));
      tensors.size[i] = size_of(begin + size_t(i));
      tensors.first_block[i + 1] = tensors.first_block[i] + int(ceil_div<int64_t>(tensors.size[i], per_block));
    }
    f(tensors, begin, blocks_before);
    blocks_before += tensors.first_block[tensors.count];
  }
}

// A block sums the squares of its elements.
__global__ void square_sums_kernel(double* partial, Tensors<1> x) {
  begin_kernel();
  int64_t begin, end;
  const float* in = x.at[0][x.find(int(blockIdx.x), begin, end)];
  double sum = 0;
#pragma unroll 4
  for (int64_t i = begin + threadIdx.x; i < end; i += threads) sum += double(in[i]) * double(in[i]);
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}
// A block for each tensor adds its partial sums, each thread its own share in order. A finite sum beyond float32 becomes the largest float;
// infinity and NaN become NaN.
__global__ void finish_kernel(float* y, const double* partial, Tensors<1> x) {
  begin_kernel();
  double sum = 0;
  for (int i = x.first_block[blockIdx.x] + int(threadIdx.x); i < x.first_block[blockIdx.x + 1]; i += threads) sum += partial[i];
  sum = block_sum(sum);
  constexpr double largest_float = 3.4028234663852886e38, largest_double = 1.7976931348623157e308;
  if (threadIdx.x == 0) y[blockIdx.x] = sum <= largest_float ? float(sum) : sum <= largest_double ? float(largest_float) : NAN;
}
__global__ void zero_kernel(float* y, int64_t n) {
  begin_kernel();
  for (int64_t i = threadIdx.x; i < n; i += threads) y[i] = 0.0f;
}
__global__ void clip_scale_kernel(float* scale, const float* squares, int64_t n, double max_norm) {
  begin_kernel();
  double sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += threads) sum += double(squares[i]);
  sum = sqrt(block_sum(sum));
  if (threadIdx.x == 0) *scale = float(sum > max_norm ? max_norm / sum : 1.0);
}

// Calls f(elements) for every index that the block has; elements are those of each array at that index, and f may change them in all arrays
// but the last. Tensors that begin at a multiple of 16 bytes are read four elements at a time.
template <int arrays, class F> __device__ void each_element(const Tensors<arrays>& all, F f) {
  int64_t begin, end;
  const int t = all.find(int(blockIdx.x), begin, end);
  float* at[arrays];
  bool packed = true;
#pragma unroll
  for (int array = 0; array < arrays; array++) {
    at[array] = all.at[array][t];
    packed = packed && reinterpret_cast<uintptr_t>(at[array]) % 16 == 0;
  }
  const auto some = [&]<int width>(int64_t i) {
    Group<float, width> groups[arrays];
#pragma unroll
    for (int array = 0; array < arrays; array++) groups[array] = *reinterpret_cast<Group<float, width>*>(at[array] + i);
#pragma unroll
    for (int j = 0; j < width; j++) {
      float of[arrays];
#pragma unroll
      for (int array = 0; array < arrays; array++) of[array] = groups[array].v[j];
      f(of);
#pragma unroll
      for (int array = 0; array < arrays - 1; array++) groups[array].v[j] = of[array];
    }
#pragma unroll
    for (int array = 0; array < arrays - 1; array++) *reinterpret_cast<Group<float, width>*>(at[array] + i) = groups[array];
  };
  const int64_t whole = packed ? begin + (end - begin) / 4 * 4 : begin;
  for (int64_t i = begin + threadIdx.x * 4; i < whole; i += threads * 4) some.template operator()<4>(i);
  for (int64_t i = whole + threadIdx.x; i < end; i += threads) some.template operator()<1>(i);
}

__global__ void sgd_kernel(Tensors<3> all, const float* scale, SgdRule<float> rule) {  // p, v, g
  begin_kernel();
  const float by = *scale;
  each_element(all, [&](float (&of)[3]) { rule(of[0], of[1], by * of[2]); });
}
__global__ void adamw_kernel(Tensors<4> all, const float* scale, AdamWRule<float> rule) {  // p, m, v, g
  begin_kernel();
  const float by = *scale;
  each_element(all, [&](float (&of)[4]) { rule(of[0], of[1], of[2], by * of[3]); });
}

// Kernels do not write through an input's address.
float* address(const In& x) { return const_cast<float*>(x.as<float>()); }
}  // namespace

void square_sums(Context& context, Out y, InList x) {
  if (int64_t(x.size()) > y.size) throw std::runtime_error("expected at most " + std::to_string(y.size) + " arrays");
  int64_t blocks = 0;
  for (const In& one : x.list) blocks += ceil_div<int64_t>(one.size, per_block);
  auto* partial = static_cast<double*>(context.scratch(size_t(blocks + 1) * sizeof(double)));
  launch(context, zero_kernel, 1, threads, 0, y.as<float>() + x.size(), y.size - int64_t(x.size()));
  each_launch<1>(
      x.size(), [&](size_t i) { return x[i].size; }, [&](int, size_t i) { return address(x[i]); },
      [&](const Tensors<1>& tensors, size_t first, int64_t before) {
        const unsigned count = unsigned(tensors.first_block[tensors.count]);
        launch(context, square_sums_kernel, dim3{count, 1, 1}, threads, 0, partial + before, tensors);
        launch(context, finish_kernel, dim3{unsigned(tensors.count), 1, 1}, threads, 0, y.as<float>() + first, partial + before, tensors);
      });
}

void clip_scale(Context& context, Out scale, In squares, double max_norm) {
  launch(context, clip_scale_kernel, 1, threads, 0, scale.as<float>(), squares.as<float>(), squares.size, max_norm);
}

void sgd_step(Context& context, OutList p, OutList v, InList p0, InList v0, InList g, In scale, double lr, double momentum,
              double weight_decay) {
  expect_lists(p, {v.size(), p0.size(), v0.size(), g.size()});
  expect_in_place(p, p0), expect_in_place(v, v0);
  const SgdRule<float> rule = {float(lr), float(momentum), float(weight_decay)};
  each_launch<3>(
      p.size(), [&](size_t i) { return p[i].size; },
      [&](int array, size_t i) { return array == 0 ? p[i].as<float>() : array == 1 ? v[i].as<float>() : address(g[i]); },
      [&](const Tensors<3>& tensors, size_t, int64_t) {
        launch(context, sgd_kernel, dim3{unsigned(tensors.first_block[tensors.count]), 1, 1}, threads, 0, tensors,
               scale.as<float>(), rule);
      });
}

void adamw_step(Context& context, OutList p, OutList m, OutList v, InList p0, InList m0, InList v0, InList g, In scale, double lr,
                double beta1, double beta2, double epsilon, double weight_decay, int64_t step) {
  expect_lists(p, {m.size(), v.size(), p0.size(), m0.size(), v0.size(), g.size()});
  expect_in_place(p, p0), expect_in_place(m, m0), expect_in_place(v, v0);
  const auto rule = adamw_rule<float>(lr, beta1, beta2, epsilon, weight_decay, step);
  each_launch<4>(
      p.size(), [&](size_t i) { return p[i].size; },
      [&](int array, size_t i) {
        return array == 0 ? p[i].as<float>() : array == 1 ? m[i].as<float>() : array == 2 ? v[i].as<float>() : address(g[i]);
      },
      [&](const Tensors<4>& tensors, size_t, int64_t) {
        launch(context, adamw_kernel, dim3{unsigned(tensors.first_block[tensors.count]), 1, 1}, threads, 0, tensors,
               scale.as<float>(), rule);
      });
}

}  // namespace turl
