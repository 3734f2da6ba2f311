// Optimiser steps in one pass over memory (native/optimizer.h), and the gradient's norm.
#include "cuda/reduce.h"
#include "kernels.h"
#include "optimizer.h"

namespace turl {
namespace {
constexpr int threads = 256, per_block = 4096;

void same(const Out& y, const In& x) {
  if (y.data != x.data) throw std::runtime_error("an optimiser step works in place");
}

// A block sums the squares of `per_block` elements.
__global__ void square_sum_kernel(double* partial, const float* x, int64_t n) {
  int64_t begin = int64_t(blockIdx.x) * per_block, end = min(n, begin + per_block);
  double sum = 0;
  for (int64_t i = begin + threadIdx.x; i < end; i += threads) sum += double(x[i]) * double(x[i]);
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}
// One block adds the partial sums, each thread its own share in order. A sum beyond float32 is clamped, a NaN stays one.
__global__ void finish_kernel(float* y, const double* partial, int64_t n) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += threads) sum += partial[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *y = sum <= 3.4028234663852886e38 ? float(sum) : sum <= 1.7976931348623157e308 ? 3.4028234663852886e38f : NAN;
}
__global__ void clip_scale_kernel(float* scale, const float* squares, int64_t n, double max_norm) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += threads) sum += double(squares[i]);
  sum = sqrt(block_sum(sum));
  if (threadIdx.x == 0) *scale = float(sum > max_norm ? max_norm / sum : 1.0);
}

__global__ void sgd_kernel(float* p, float* v, const float* g, const float* scale, SgdRule<float> rule, int64_t n) {
  int64_t i = int64_t(blockIdx.x) * threads + threadIdx.x;
  if (i < n) rule(p[i], v[i], *scale * g[i]);
}
__global__ void adamw_kernel(float* p, float* m, float* v, const float* g, const float* scale, AdamWRule<float> rule, int64_t n) {
  int64_t i = int64_t(blockIdx.x) * threads + threadIdx.x;
  if (i < n) rule(p[i], m[i], v[i], *scale * g[i]);
}
}  // namespace

void square_sum(Context& context, Out y, In x, In y0, int64_t index) {
  same(y, y0);
  if (index < 0 || index >= y.size) throw std::runtime_error("index out of range");
  int64_t blocks = ceil_div<int64_t>(x.size, per_block);
  auto* partial = static_cast<double*>(context.scratch(size_t(blocks + 1) * sizeof(double)));
  launch(context, square_sum_kernel, dim3{unsigned(blocks), 1, 1}, threads, 0, partial, x.as<float>(), x.size);
  launch(context, finish_kernel, 1, threads, 0, y.as<float>() + index, partial, blocks);
}

void clip_scale(Context& context, Out scale, In squares, double max_norm) {
  launch(context, clip_scale_kernel, 1, threads, 0, scale.as<float>(), squares.as<float>(), squares.size, max_norm);
}

void sgd_step(Context& context, Out p, Out v, In p0, In v0, In g, In scale, double lr, double momentum, double weight_decay) {
  same(p, p0), same(v, v0);
  SgdRule<float> rule = {float(lr), float(momentum), float(weight_decay)};
  launch(context, sgd_kernel, blocks_for(p.size, threads), threads, 0, p.as<float>(), v.as<float>(), g.as<float>(),
         scale.as<float>(), rule, p.size);
}

void adamw_step(Context& context, Out p, Out m, Out v, In p0, In m0, In v0, In g, In scale, double lr, double beta1, double beta2,
                double epsilon, double weight_decay, int64_t step) {
  same(p, p0), same(m, m0), same(v, v0);
  auto rule = adamw_rule<float>(lr, beta1, beta2, epsilon, weight_decay, step);
  launch(context, adamw_kernel, blocks_for(p.size, threads), threads, 0, p.as<float>(), m.as<float>(), v.as<float>(),
         g.as<float>(), scale.as<float>(), rule, p.size);
}

}  // namespace turl
