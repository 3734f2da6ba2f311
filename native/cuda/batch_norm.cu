// Batch normalisation over the rows of x [rows, channels], optionally followed by PReLU or by the addition of a residual; the
// formulas stand in cpu/batch_norm.cpp. Sums: a block takes 32 channels of one chunk of rows and leaves float sums of about a
// hundred terms a thread; the chunks are added in double, in order. Bytes moved: forward x twice and y once, backward x and dy
// twice and dx once, each with what is added on the way.
#include <algorithm>
#include "cuda/device.h"
#include "kernels.h"

namespace turl {
namespace {

constexpr int columns = 32, lines = 8;

struct Chunks {
  int64_t rows, count;
  Chunks(int64_t n) : rows(std::max<int64_t>(64, ceil_div<int64_t>(n, 256))), count(std::max<int64_t>(1, ceil_div(n, rows))) {}
  dim3 grid(int64_t channels) const { return {unsigned(ceil_div<int64_t>(channels, columns)), unsigned(count), 1}; }
};

// Adds `count` sums of each thread over the lines of the block and writes them to partial[chunk][s][channel].
template <int count> __device__ void leave_sums(float* partial, float (&sum)[count], int c, int channels) {
  TURL_SHARED(float, lane_sums, [count][lines][columns]);
  for (int s = 0; s < count; s++) lane_sums[s][threadIdx.y][threadIdx.x] = sum[s];
  __syncthreads();
  if (threadIdx.y != 0 || c >= channels) return;
  for (int s = 0; s < count; s++) {
    for (int line = 1; line < lines; line++) sum[s] += lane_sums[s][line][threadIdx.x];
    partial[(int64_t(blockIdx.y) * count + s) * channels + c] = sum[s];
  }
}
__device__ inline double add_chunks(const float* partial, int64_t chunks, int count, int s, int c, int channels) {
  double total = 0;
  for (int64_t chunk = 0; chunk < chunks; chunk++) total += double(partial[(chunk * count + s) * channels + c]);
  return total;
}

// Sums of x - origin and of its square, the origin being the first row: a large mean costs no accuracy.
template <class T>
__global__ void statistics_kernel(float* partial, const T* x, int64_t rows, int channels, int64_t chunk_rows) {
  int c = int(blockIdx.x) * columns + int(threadIdx.x);
  int64_t begin = blockIdx.y * chunk_rows, end = min(rows, begin + chunk_rows);
  float sum[2] = {0, 0};
  if (c < channels) {
    float origin = float(x[c]);
    for (int64_t i = begin + threadIdx.y; i < end; i += lines) {
      float d = float(x[i * channels + c]) - origin;
      sum[0] += d, sum[1] += d * d;
    }
  }
  leave_sums<2>(partial, sum, c, channels);
}

template <class T>
__global__ void finish_statistics_kernel(float* moments, float* running_mean, float* running_variance, const T* x,
                                         const float* running_mean0, const float* running_variance0, const float* partial,
                                         int64_t chunks, int64_t rows, int channels, double momentum, double epsilon) {
  int c = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (c >= channels) return;
  double n = double(rows), shifted = add_chunks(partial, chunks, 2, 0, c, channels) / n;
  double mu = double(float(x[c])) + shifted;
  double variance = add_chunks(partial, chunks, 2, 1, c, channels) / n - shifted * shifted;
  if (variance < 0) variance = 0;
  moments[c] = float(mu), moments[channels + c] = float(1 / sqrt(variance + epsilon));
  running_mean[c] = float((1 - momentum) * double(running_mean0[c]) + momentum * mu);
  running_variance[c] = float((1 - momentum) * double(running_variance0[c]) + momentum * variance * n / (n - 1));
}

__global__ void moments_kernel(float* moments, const float* mean, const float* variance, double epsilon, int64_t channels) {
  int64_t c = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c < channels) moments[c] = mean[c], moments[channels + c] = float(1 / sqrt(double(variance[c]) + epsilon));
}

// What the element-wise kernels read of a channel; absent arrays are null.
struct Channel {
  const float *mean, *inverse, *gamma, *beta, *slope;
  __device__ float scale(int c) const { return gamma ? gamma[c] * inverse[c] : inverse[c]; }
  __device__ float z(float x, int c) const { return (x - mean[c]) * scale(c) + (beta ? beta[c] : 0.0f); }
};
const float* optional(In x) { return x.size > 0 ? x.as<float>() : nullptr; }
Channel channel_of(In moments, In gamma, In beta, In slope) {
  const float* mean = moments.as<float>();
  return {mean, mean + moments.size / 2, optional(gamma), optional(beta), optional(slope)};
}

// `width` neighbouring elements of T, read in one access where width is the pack's size.
template <class T, int width> struct alignas(width == 1 ? sizeof(T) : 16) Group {
  T v[width];
};

template <class T, int width>
__global__ void forward_kernel(T* y, const T* x, const T* residual, Channel k, int64_t groups, int channels) {
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= groups) return;
  using G = Group<T, width>;
  G in = reinterpret_cast<const G*>(x)[i], out, rest = residual ? reinterpret_cast<const G*>(residual)[i] : in;
  int first = int(i % (channels / width)) * width;
#pragma unroll
  for (int j = 0; j < width; j++) {
    int c = first + j;
    float z = k.z(float(in.v[j]), c);
    if (k.slope) z = z > 0 ? z : k.slope[c] * z;
    if (residual) z += float(rest.v[j]);
    out.v[j] = T(z);
  }
  reinterpret_cast<G*>(y)[i] = out;
}

// Sums of g, of g (x - mean), and of z dy where z <= 0.
template <class T>
__global__ void backward_sums_kernel(float* partial, const T* dy, const T* x, Channel k, int64_t rows, int channels,
                                     int64_t chunk_rows) {
  int c = int(blockIdx.x) * columns + int(threadIdx.x);
  int64_t begin = blockIdx.y * chunk_rows, end = min(rows, begin + chunk_rows);
  float sum[3] = {0, 0, 0};
  if (c < channels) {
    float mean = k.mean[c], scale = k.scale(c), shift = k.beta ? k.beta[c] : 0.0f, slope = k.slope ? k.slope[c] : 1.0f;
    for (int64_t i = begin + threadIdx.y; i < end; i += lines) {
      float d = float(x[i * channels + c]) - mean, g = float(dy[i * channels + c]), z = d * scale + shift;
      if (!(z > 0)) sum[2] += z * g, g *= slope;
      sum[0] += g, sum[1] += g * d;
    }
  }
  leave_sums<3>(partial, sum, c, channels);
}

// The gradients of the channel, and the constants of dx = scale g + offset + (x - mean) slant + more.
__global__ void finish_backward_kernel(float* dgamma, float* dbeta, float* dslope, float* offset, float* slant, const float* partial,
                                       Channel k, int64_t chunks, int64_t rows, int channels, int training) {
  int c = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (c >= channels) return;
  double sum_g = add_chunks(partial, chunks, 3, 0, c, channels);
  double sum_gh = add_chunks(partial, chunks, 3, 1, c, channels) * double(k.inverse[c]);
  dbeta[c] = float(sum_g), dgamma[c] = float(sum_gh);
  if (k.slope) dslope[c] = float(add_chunks(partial, chunks, 3, 2, c, channels));
  offset[c] = training ? float(-double(k.scale(c)) * sum_g / double(rows)) : 0.0f;
  slant[c] = training ? float(-double(k.scale(c)) * double(k.inverse[c]) * sum_gh / double(rows)) : 0.0f;
}

template <class T, int width>
__global__ void backward_kernel(T* dx, const T* dy, const T* x, const T* more, const float* offset, const float* slant, Channel k,
                                int64_t groups, int channels) {
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= groups) return;
  using G = Group<T, width>;
  G in = reinterpret_cast<const G*>(x)[i], up = reinterpret_cast<const G*>(dy)[i], out;
  G rest = more ? reinterpret_cast<const G*>(more)[i] : in;
  int first = int(i % (channels / width)) * width;
#pragma unroll
  for (int j = 0; j < width; j++) {
    int c = first + j;
    float v = float(in.v[j]), g = float(up.v[j]);
    if (k.slope && !(k.z(v, c) > 0)) g *= k.slope[c];
    float d = k.scale(c) * g + offset[c] + (v - k.mean[c]) * slant[c];
    out.v[j] = T(more ? d + float(rest.v[j]) : d);
  }
  reinterpret_cast<G*>(dx)[i] = out;
}

template <class T>
void statistics(Context& context, Out moments, Out running_mean, Out running_variance, In x, In running_mean0,
                In running_variance0, int64_t rows, int64_t channels, double momentum, double epsilon) {
  Chunks chunks(rows);
  auto* partial = static_cast<float*>(context.scratch(size_t(chunks.count * channels * 2) * sizeof(float)));
  launch(context, statistics_kernel<T>, chunks.grid(channels), dim3{columns, lines, 1}, 0, partial, x.as<T>(), rows, channels,
         chunks.rows);
  launch(context, finish_statistics_kernel<T>, blocks_for(channels, 64), 64, 0, moments.as<float>(), running_mean.as<float>(),
         running_variance.as<float>(), x.as<T>(), running_mean0.as<float>(), running_variance0.as<float>(), partial, chunks.count,
         rows, channels, momentum, epsilon);
}

template <class T>
void forward(Context& context, Out y, In x, In moments, In gamma, In beta, In slope, In residual, int64_t rows, int64_t channels) {
  const T* rest = residual.size > 0 ? residual.as<T>() : nullptr;
  Channel k = channel_of(moments, gamma, beta, slope);
  auto run = [&]<int width>() {
    int64_t groups = rows * channels / width;
    launch(context, forward_kernel<T, width>, blocks_for(groups, 256), 256, 0, y.as<T>(), x.as<T>(), rest, k, groups, channels);
  };
  if (packs<T>(channels, y.as<T>(), x.as<T>(), rest)) run.template operator()<Pack<T>::size>();
  else run.template operator()<1>();
}

}  // namespace

// The moments in evaluation, from the running statistics.
void batch_norm_moments(Context& context, Out moments, In mean, In variance, double epsilon) {
  launch(context, moments_kernel, blocks_for(variance.size, 128), 128, 0, moments.as<float>(), mean.as<float>(),
         variance.as<float>(), epsilon, variance.size);
}

void batch_norm_training(Context& context, Out y, Out moments, Out running_mean, Out running_variance, In x, In running_mean0,
                         In running_variance0, MaybeIn gamma, MaybeIn beta, MaybeIn slope, MaybeIn residual, int64_t rows,
                         int64_t channels, double momentum, double epsilon) {
  with_float(x.dtype, [&]<class T>() {
    statistics<T>(context, moments, running_mean, running_variance, x, running_mean0, running_variance0, rows, channels, momentum,
                  epsilon);
    const In found = {moments.data, moments.size, moments.dtype};
    forward<T>(context, y, x, found, gamma, beta, slope, residual, rows, channels);
  });
}

void batch_norm_forward(Context& context, Out y, In x, In moments, MaybeIn gamma, MaybeIn beta, MaybeIn slope, MaybeIn residual,
                        int64_t rows, int64_t channels) {
  with_float(x.dtype, [&]<class T>() { forward<T>(context, y, x, moments, gamma, beta, slope, residual, rows, channels); });
}

void batch_norm_backward(Context& context, MaybeOut dx, Out dgamma, Out dbeta, MaybeOut dslope, In dy, In x, In moments,
                         MaybeIn gamma, MaybeIn beta, MaybeIn slope, MaybeIn more, int64_t rows, int64_t channels,
                         int64_t training) {
  with_float(x.dtype, [&]<class T>() {
    Chunks chunks(rows);
    auto* partial = static_cast<float*>(context.scratch(size_t((chunks.count * 3 + 2) * channels) * sizeof(float)));
    float *offset = partial + chunks.count * 3 * channels, *slant = offset + channels;
    Channel k = channel_of(moments, gamma, beta, slope);
    launch(context, backward_sums_kernel<T>, chunks.grid(channels), dim3{columns, lines, 1}, 0, partial, dy.as<T>(), x.as<T>(), k,
           rows, channels, chunks.rows);
    launch(context, finish_backward_kernel, blocks_for(channels, 64), 64, 0, dgamma.as<float>(), dbeta.as<float>(),
           slope.size > 0 ? dslope.as<float>() : nullptr, offset, slant, partial, k, chunks.count, rows, channels, training);
    if (dx.size == 0) return;
    const T* rest = more.size > 0 ? more.as<T>() : nullptr;
    auto run = [&]<int width>() {
      int64_t groups = dx.size / width;
      launch(context, backward_kernel<T, width>, blocks_for(groups, 256), 256, 0, dx.as<T>(), dy.as<T>(), x.as<T>(), rest, offset,
             slant, k, groups, channels);
    };
    if (packs<T>(channels, dx.as<T>(), dy.as<T>(), x.as<T>(), rest)) run.template operator()<Pack<T>::size>();
    else run.template operator()<1>();
  });
}

}  // namespace turl
