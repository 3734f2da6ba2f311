// What both ways to compute the margin softmax (margin_softmax.cu) share: the problem's sizes, running sums of exponentials and how they are
// merged, the norms of the prototypes and their gradient.
#pragma once
#include "cuda/normalize_group.h"

namespace turl {

constexpr float lowest = -1e30f;  // below every logit: the maximum before the first one
constexpr int splits = 32;        // parts of a slice whose contributions to dg are summed by different blocks: 128 for 256 samples of 512
constexpr int warps = 8;
#ifdef TURL_EMULATED  // small, so that small tests have several runs and slices
constexpr int64_t most_runs = 2, slice_elements = 32768;
#else
constexpr int64_t most_runs = 512;                    // runs of class tiles in forward
constexpr int64_t slice_elements = int64_t(8) << 20;  // of p, and of v, for a slice of the classes: 32 MiB each
#endif

struct Problem {
  const float* w;  // [N, D]
  float* inverse;  // [N, K]: 1 / norm of each group of w
  int64_t samples, classes;
  int size, groups, length;
  float epsilon;  // norms below it count as epsilon
  __device__ float prototype(int64_t j, int64_t e) const {
    return j < classes ? w[j * size + e] * inverse[j * groups + int(e) / length] : 0.0f;
  }
};

// The running maximum and the sum of e^(a - maximum).
struct Running {
  float maximum = lowest, sum = 0;
  __device__ void add(float m, float s) {
    if (m > maximum) {
      sum = sum * expf(maximum - m) + s;
      maximum = m;
    } else {
      sum += s * expf(m - maximum);  // also taken for a NaN, which then stays
    }
  }
  template <int bits> __device__ void merge_lanes() {
    for (int bit = bits; bit > 0; bit /= 2) {
      float m = __shfl_xor_sync(full_warp, maximum, bit), s = __shfl_xor_sync(full_warp, sum, bit);
      add(m, s);
    }
  }
};

template <int width> __global__ void inverse_norm_kernel(Problem p, Team<width> team) {
  begin_kernel();
  const float inverse = team.inverse_norm(p.w + team.begin(p.classes * p.groups), p.epsilon);
  if (team.size > 0 && team.lane() == 0) p.inverse[team.group()] = inverse;
}

__global__ void fill_nan_kernel(float* y, int64_t n) {
  begin_kernel();
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n) y[i] = NAN;
}

// A warp for each sample: merges the runs and computes the results.
__global__ void margin_softmax_merge_kernel(float* loss, float* logsumexp, float* hit, const float* maximum, const float* sum,
                                            const float* target, int64_t samples, int64_t runs, float margin) {
  begin_kernel();
  int64_t sample = int64_t(blockIdx.x) * warps + threadIdx.x / 32;
  if (sample >= samples) return;
  Running others;
  for (int64_t run = threadIdx.x % 32; run < runs; run += 32)
    others.add(maximum[run * samples + sample], sum[run * samples + sample]);
  others.merge_lanes<16>();
  if (threadIdx.x % 32 != 0) return;
  float own = target[sample] - margin;
  float above = others.maximum + logf(others.sum) - own;  // how far all others together are above the label
  float value = above > 0 ? above + log1pf(expf(-above)) : log1pf(expf(above));
  loss[sample] = value;
  logsumexp[sample] = own + value;
  hit[sample] = target[sample] > others.maximum ? 1.0f : 0.0f;
}

template <class T> __global__ void add_splits_kernel(T* dg, const float* partial, int64_t n) {
  begin_kernel();
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  float sum = 0;
  for (int split = 0; split < splits; split++) sum += partial[split * n + i];
  dg[i] = T(sum);
}

// dw from dv, in place.
template <int width> __global__ void project_kernel(float* dw, Problem p, Team<width> team) {
  begin_kernel();
  const int64_t at = team.begin(p.classes * p.groups);
  team.project(dw + at, dw + at, p.w + at, team.size > 0 ? p.inverse[team.group()] : 0.0f, p.epsilon);
}

}  // namespace turl
