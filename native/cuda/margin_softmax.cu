// Softmax cross-entropy with a margin over any number of classes; the formulas and arguments are those of cpu/margin_softmax.cpp.
//   B samples, N classes, D size, K groups; a_ij = g_i . v_j, v_j = w_j with each group divided by its norm.
// Forward: a block computes 64 x 64 logits at a time for one run of class tiles and keeps, per thread, the running maximum and sum
// of e^a of its samples; the runs are merged in order. It reads w once for each 64 samples.
// Backward, for a slice of classes at a time: p [B, slice] = dloss (softmax - onehot) into scratch, dv = p^T g, dg += p v; at last
// dw from dv through the norms. The slice bounds the scratch at 32 MiB, whatever N is; the inverse norms take 4 N K bytes.
#include <algorithm>
#include "cuda/normalize_group.h"
#include "cuda/tile_product.h"
#include "kernels.h"

namespace turl {
namespace {

constexpr float lowest = -1e30f;        // below every logit: the maximum of nothing
constexpr int64_t most_runs = 512;      // runs of class tiles in forward
constexpr int64_t slice_elements = int64_t(8) << 20;
constexpr int splits = 16;              // parts of a slice whose contributions to dg are summed side by side
constexpr int warps = 8;

struct Problem {
  const float *w, *inverse;  // [N, D], [N, K]
  int64_t samples, classes;
  int size, groups, length;
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
      sum += s * expf(m - maximum);  // a NaN ends here and stays
    }
  }
  template <int bits> __device__ void merge_lanes() {
    for (int bit = bits; bit > 0; bit /= 2) {
      float m = __shfl_xor_sync(full_warp, maximum, bit), s = __shfl_xor_sync(full_warp, sum, bit);
      add(m, s);
    }
  }
};

__global__ void inverse_norm_kernel(float* inverse, const float* w, int64_t total, int length, float epsilon) {
  int64_t group = int64_t(blockIdx.x) * warps + threadIdx.x / 32;
  if (group >= total) return;
  float value = inverse_norm(w + group * length, length, epsilon);
  if (threadIdx.x % 32 == 0) inverse[group] = value;
}

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

__global__ void fill_nan_kernel(float* y, int64_t n) {
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n) y[i] = NAN;
}

// Grid [runs, sample tiles]: maximum and sum [runs, B] over the classes of a run other than the label; target [B] the label's.
template <class T>
__global__ void __launch_bounds__(tile_threads)
    margin_softmax_forward_kernel(float* maximum, float* sum, float* target, const T* g, Problem p, const int32_t* labels,
                                  int64_t run_tiles) {
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

// One warp a sample: merges the runs and forms the results.
__global__ void margin_softmax_merge_kernel(float* loss, float* logsumexp, float* hit, const float* maximum, const float* sum,
                                            const float* target, int64_t samples, int64_t runs, float margin) {
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

// p [B, slice] for classes first .. first + count; grid [class tiles, sample tiles].
template <class T>
__global__ void __launch_bounds__(tile_threads)
    softmax_gradient_kernel(float* out, const T* g, Problem p, const int32_t* labels, const float* dloss, const float* loss,
                            const float* logsumexp, int64_t first, int64_t count) {
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

template <class T> __global__ void add_splits_kernel(T* dg, const float* partial, int64_t n) {
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  float sum = 0;
  for (int split = 0; split < splits; split++) sum += partial[split * n + i];
  dg[i] = T(sum);
}

// dw from dv, in place; one warp a group.
__global__ void project_kernel(float* dw, const float* w, const float* inverse, int64_t total, int length, float epsilon) {
  int64_t group = int64_t(blockIdx.x) * warps + threadIdx.x / 32;
  if (group >= total) return;
  project_group(dw + group * length, dw + group * length, w + group * length, inverse[group], length, epsilon);
}

float* array(Context& context, int64_t elements) {
  return static_cast<float*>(context.scratch(size_t(std::max<int64_t>(elements, 1)) * sizeof(float)));
}

Problem normalised(Context& context, const float* w, int64_t samples, int64_t classes, int64_t size, int64_t groups,
                   double epsilon) {
  float* inverse = array(context, classes * groups);
  launch(context, inverse_norm_kernel, blocks_for(classes * groups, warps), warps * 32, 0, inverse, w, classes * groups,
         size / groups, epsilon);
  return {w, inverse, samples, classes, int(size), int(groups), int(size / groups)};
}

unsigned tiles_of(int64_t n) { return unsigned(ceil_div<int64_t>(n, tile_side)); }

}  // namespace

void margin_softmax_forward(Context& context, Out loss, Out logsumexp, Out hit, In g, In w, In labels, int64_t samples,
                            int64_t classes, int64_t size, int64_t groups, double margin, double epsilon) {
  with_float(g.dtype, [&]<class T>() {
    Problem p = normalised(context, w.as<float>(), samples, classes, size, groups, epsilon);
    int64_t run_tiles = std::max<int64_t>(1, ceil_div<int64_t>(tiles_of(classes), most_runs));
    int64_t runs = ceil_div<int64_t>(tiles_of(classes), run_tiles);
    float *maximum = array(context, runs * samples), *sum = array(context, runs * samples), *target = array(context, samples);
    launch(context, fill_nan_kernel, blocks_for(samples, 256), 256, 0, target, samples);
    launch(context, margin_softmax_forward_kernel<T>, dim3{unsigned(runs), tiles_of(samples), 1}, tile_threads, 0, maximum, sum,
           target, g.as<T>(), p, labels.as<int32_t>(), run_tiles);
    launch(context, margin_softmax_merge_kernel, blocks_for(samples, warps), warps * 32, 0, loss.as<float>(),
           logsumexp.as<float>(), hit.as<float>(), maximum, sum, target, samples, runs, margin);
  });
}

void margin_softmax_backward(Context& context, Out dg, Out dw, In dloss, In loss, In logsumexp, In g, In w, In labels,
                             int64_t samples, int64_t classes, int64_t size, int64_t groups, double epsilon) {
  with_float(g.dtype, [&]<class T>() {
    Problem p = normalised(context, w.as<float>(), samples, classes, size, groups, epsilon);
    int64_t slice = std::clamp<int64_t>(slice_elements / std::max<int64_t>(samples, 1) / tile_side * tile_side, tile_side,
                                        int64_t(tiles_of(classes)) * tile_side);
    float* gradient = array(context, samples * std::min(slice, classes));
    float* partial = array(context, splits * samples * size);
    for (int64_t first = 0; first < classes; first += slice) {
      int64_t count = std::min(slice, classes - first);
      launch(context, softmax_gradient_kernel<T>, dim3{tiles_of(count), tiles_of(samples), 1}, tile_threads, 0, gradient,
             g.as<T>(), p, labels.as<int32_t>(), dloss.as<float>(), loss.as<float>(), logsumexp.as<float>(), first, count);
      launch(context, prototype_gradient_kernel<T>, dim3{tiles_of(count), tiles_of(size), 1}, tile_threads, 0,
             dw.as<float>() + first * size, gradient, g.as<T>(), samples, count, size);
      launch(context, embedding_gradient_kernel, dim3{tiles_of(size), tiles_of(samples), splits}, tile_threads, 0, partial,
             gradient, p, first, count, first > 0);
    }
    launch(context, add_splits_kernel<T>, blocks_for(samples * size, 256), 256, 0, dg.as<T>(), partial, samples * size);
    launch(context, project_kernel, blocks_for(classes * groups, warps), warps * 32, 0, dw.as<float>(), p.w, p.inverse,
           classes * groups, p.length, epsilon);
  });
}

}  // namespace turl
