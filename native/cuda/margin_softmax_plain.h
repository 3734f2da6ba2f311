// The margin softmax with float32 products, for any sizes. A block has tiles of 64 samples x 64 classes; w is read once for each 64 samples.
#pragma once
#include "cuda/margin_softmax_parts.h"
#include "cuda/tile_product.h"

namespace turl {

// A thread's sums[i][j]: the logits of samples 64 sample_tile + 4 (t / 16) + i and classes first_class + 4 (t % 16) + j.
template <class T>
__device__ void logits(float (&sums)[4][4], const Problem& p, const T* g, int64_t first_sample, int64_t first_class) {
  for (auto& row : sums)
    for (float& sum : row) sum = 0;
  tile_product<Fast::depth, Fast::depth>(
      sums, 0, p.size,
      [&](int i, int64_t e) {
        return first_sample + i < p.samples ? float(g[(first_sample + i) * p.size + e]) : 0.0f;
      },
      [&](int j, int64_t e) { return p.prototype(first_class + j, e); });
}

// Grid [runs, sample tiles]: maximum and sum [runs, B] over the classes of a run other than the label; target [B] the label's.
template <class T>
__global__ void __launch_bounds__(tile_threads)
    margin_softmax_forward_kernel(float* maximum, float* sum, float* target, const T* g, Problem p, const int32_t* labels,
                                  int64_t run_tiles) {
  begin_kernel();
  int64_t first_sample = int64_t(blockIdx.y) * tile_side, tiles = ceil_div<int64_t>(p.classes, tile_side);
  int row = threadIdx.x / 16 * 4, column = threadIdx.x % 16 * 4;
  Running running[4];
  int64_t end = min(tiles, (int64_t(blockIdx.x) + 1) * run_tiles);
  for (int64_t tile = blockIdx.x * run_tiles; tile < end; tile++) {
    float a[4][4];
    logits(a, p, g, first_sample, tile * tile_side);
    for (int i = 0; i < 4; i++) {
      int64_t sample = first_sample + row + i;
      if (sample >= p.samples) continue;
      for (int j = 0; j < 4; j++) {
        int64_t c = tile * tile_side + column + j;
        if (c >= p.classes) continue;
        if (c == labels[sample]) target[sample] = a[i][j];
        else running[i].add(a[i][j], 1.0f);
      }
    }
  }
  for (int i = 0; i < 4; i++) {
    running[i].merge_lanes<8>();
    int64_t sample = first_sample + row + i;
    if (column != 0 || sample >= p.samples) continue;
    maximum[blockIdx.x * p.samples + sample] = running[i].maximum;
    sum[blockIdx.x * p.samples + sample] = running[i].sum;
  }
}

// p [B, slice] for classes first .. first + count; grid [class tiles, sample tiles].
template <class T>
__global__ void __launch_bounds__(tile_threads)
    softmax_gradient_kernel(float* out, const T* g, Problem p, const int32_t* labels, const float* dloss, const float* loss,
                            const float* logsumexp, int64_t first, int64_t count) {
  begin_kernel();
  int64_t first_sample = int64_t(blockIdx.y) * tile_side, offset = int64_t(blockIdx.x) * tile_side;
  int row = threadIdx.x / 16 * 4, column = threadIdx.x % 16 * 4;
  float a[4][4];
  logits(a, p, g, first_sample, first + offset);
  for (int i = 0; i < 4; i++) {
    int64_t sample = first_sample + row + i;
    if (sample >= p.samples) continue;
    for (int j = 0; j < 4; j++) {
      int64_t c = offset + column + j;
      if (c >= count) continue;
      // e^-loss - 1 keeps its digits when the softmax is nearly 1
      float d = first + c == labels[sample] ? expm1f(-loss[sample]) : expf(a[i][j] - logsumexp[sample]);
      out[sample * count + c] = dloss[sample] * d;
    }
  }
}

// dv [slice, D] = p^T g; grid [class tiles, tiles of D].
template <class T>
__global__ void __launch_bounds__(tile_threads)
    prototype_gradient_kernel(float* dv, const float* p, const T* g, int64_t samples, int64_t count, int size) {
  begin_kernel();
  int64_t first = int64_t(blockIdx.x) * tile_side, first_e = int64_t(blockIdx.y) * tile_side;
  float sums[4][4] = {};
  tile_product<Fast::side, Fast::side>(
      sums, 0, samples, [&](int j, int64_t i) { return first + j < count ? p[i * count + first + j] : 0.0f; },
      [&](int e, int64_t i) { return first_e + e < size ? float(g[i * size + first_e + e]) : 0.0f; });
  int row = threadIdx.x / 16 * 4, column = threadIdx.x % 16 * 4;
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 4; j++) {
      int64_t c = first + row + i, e = first_e + column + j;
      if (c < count && e < size) dv[c * size + e] = sums[i][j];
    }
}

// partial [splits, B, D] (+)= p v over a part of the slice; grid [tiles of D, sample tiles, splits].
__global__ void __launch_bounds__(tile_threads)
    embedding_gradient_kernel(float* partial, const float* p, Problem problem, int64_t first, int64_t count, int add) {
  begin_kernel();
  int64_t first_e = int64_t(blockIdx.x) * tile_side, first_sample = int64_t(blockIdx.y) * tile_side;
  int64_t part = ceil_div<int64_t>(count, splits), begin = min(count, blockIdx.z * part), end = min(count, begin + part);
  float sums[4][4] = {};
  tile_product<Fast::depth, Fast::side>(
      sums, begin, end,
      [&](int i, int64_t c) { return first_sample + i < problem.samples ? p[(first_sample + i) * count + c] : 0.0f; },
      [&](int e, int64_t c) { return first_e + e < problem.size ? problem.prototype(first + c, first_e + e) : 0.0f; });
  int row = threadIdx.x / 16 * 4, column = threadIdx.x % 16 * 4;
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 4; j++) {
      int64_t sample = first_sample + row + i, e = first_e + column + j;
      if (sample >= problem.samples || e >= problem.size) continue;
      float* to = partial + (blockIdx.z * problem.samples + sample) * problem.size + e;
      *to = (add ? *to : 0.0f) + sums[i][j];
    }
}

}  // namespace turl
