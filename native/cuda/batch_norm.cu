// Batch normalisation over the rows of x [rows, channels], optionally followed by PReLU or by the addition of a residual; the
// formulas are in cpu/batch_norm.cpp. Memory: forward moves x once, or twice if its statistics are not known, and y once; backward moves x and
// dy twice and dx once; what is added on the way comes in addition. Threads walk over rows (rows.h) and keep the constants of their channels.
// Where two walks follow each other, the first goes backwards, beginning with what the kernel before wrote last, and the second forwards. The
// sums of chunks are added in double, always in the same order.
#include "cuda/add_parts.h"
#include "cuda/channel_sums.h"
#include "cuda/rows.h"
#include "kernels.h"

namespace turl {
namespace {

// The finishing kernels: a block adds up the chunks of a few channels. Each line adds every finish_lines-th chunk, then lines are added in
// pairs.
constexpr int finish_columns = 8, finish_lines = 128;
dim3 finish_grid(int64_t channels) { return blocks_for(channels, finish_columns); }
constexpr dim3 finish_block() { return {finish_columns, finish_lines, 1}; }

template <int count> __device__ void add_chunks(double (&total)[count], const float* partial, int chunks, int c, int channels) {
  TURL_SHARED(double, sums, [count][finish_lines][finish_columns]);
  const int line = int(threadIdx.y), column = int(threadIdx.x);
  double sum[count] = {};
  if (c < channels)
#pragma unroll 4
    for (int chunk = line; chunk < chunks; chunk += finish_lines)
#pragma unroll
      for (int s = 0; s < count; s++) sum[s] += double(partial[(int64_t(chunk) * count + s) * channels + c]);
#pragma unroll
  for (int s = 0; s < count; s++) sums[s][line][column] = sum[s];
  for (int half = finish_lines / 2; half > 0; half /= 2) {
    __syncthreads();
    if (line < half)
      for (int s = 0; s < count; s++) sums[s][line][column] += sums[s][line + half][column];
  }
  __syncthreads();
  for (int s = 0; s < count; s++) total[s] = sums[s][0][column];
}

// Sums of x - origin and of its square, the origin being the first row: a large mean costs no accuracy.
template <class T, int width>
__global__ void __launch_bounds__(row_threads, 4) statistics_kernel(float* partial, const T* x, Rows<width> rows) {
  begin_kernel();
  float sum[2][width] = {}, origin[width];
  const int c = rows.channel();
#pragma unroll
  for (int j = 0; j < width; j++) origin[j] = c < rows.channels ? float(x[c + j]) : 0.0f;
  rows.template each<true, 4>({x}, [&](int64_t, const Group<T, width>(&in)[1]) {
#pragma unroll
    for (int j = 0; j < width; j++) {
      const float d = float(in[0].v[j]) - origin[j];
      sum[0][j] += d, sum[1][j] += d * d;
    }
  });
  leave_sums(partial, sum, rows.channels);
}

// The sums of chunks are of values minus `origin`, or of the values themselves if it is null.
template <class T>
__global__ void __launch_bounds__(finish_columns * finish_lines)
    finish_statistics_kernel(float* statistics, const T* origin, const float* partial, int chunks, int64_t rows, int channels) {
  begin_kernel();
  const int c = int(blockIdx.x) * finish_columns + int(threadIdx.x);
  double total[2];
  add_chunks(total, partial, chunks, c, channels);
  if (threadIdx.y != 0 || c >= channels) return;
  const double shifted = total[0] / double(rows), variance = total[1] / double(rows) - shifted * shifted;
  statistics[c] = float(shifted + (origin ? double(float(origin[c])) : 0.0));
  statistics[channels + c] = float(variance < 0 ? 0 : variance);  // NaN stays
}

__device__ inline float inverse_of(float variance, double epsilon) { return 1 / sqrtf(variance + float(epsilon)); }

__global__ void moments_kernel(float* moments, const float* mean, const float* variance, double epsilon, int64_t channels) {
  begin_kernel();
  int64_t c = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c < channels) moments[c] = mean[c], moments[channels + c] = inverse_of(variance[c], epsilon);
}

// The arrays of a layer's channels; absent ones are null. In training, `inverse` holds the variance: forward_kernel computes the moments from
// it.
struct Channel {
  const float *mean, *inverse, *gamma, *beta, *slope;
  __device__ float scale(int c) const { return gamma ? gamma[c] * inverse[c] : inverse[c]; }
};
const float* optional(In x) { return x.size > 0 ? x.as<float>() : nullptr; }
Channel channel_of(const float* moments, In gamma, In beta, In slope, int64_t channels) {
  return {moments, moments + channels, optional(gamma), optional(beta), optional(slope)};
}
// Whether the channels' arrays and `arrays` can be read in packs.
template <class T, class... A> bool packs_of(const Channel& k, int64_t channels, const A*... arrays) {
  return packs<T>(channels, arrays...) && packs<float>(channels, k.mean, k.inverse, k.gamma, k.beta, k.slope);
}

// What training computes from a batch's statistics: its moments, and running <- (1 - momentum) running + momentum batch, with the unbiased
// variance. In evaluation all pointers are null.
struct Update {
  float *moments = nullptr, *running_mean = nullptr, *running_variance = nullptr;
  const float *running_mean0 = nullptr, *running_variance0 = nullptr;  // may be the same
  double momentum = 0, epsilon = 0;

  // Called by one thread for each channel.
  __device__ void leave(int c, int channels, float mean, float variance, int64_t rows) const {
    const double n = double(rows);
    moments[c] = mean, moments[channels + c] = inverse_of(variance, epsilon);
    running_mean[c] = float((1 - momentum) * double(running_mean0[c]) + momentum * double(mean));
    running_variance[c] = float((1 - momentum) * double(running_variance0[c]) + momentum * double(variance) * n / (n - 1));
  }
};

// What a thread keeps of its channels: z = (x - mean) scale + shift, times slope where it is not positive.
template <int width> struct Constants {
  float mean[width] = {}, scale[width] = {}, shift[width] = {}, slope[width] = {};
  // inverse_of(x) is the inverse, where x is what k.inverse holds.
  template <class F> __device__ Constants(const Channel& k, int c, int channels, F inverse_of) {
    if (c >= channels) return;
    take(mean, k.mean, c), take(scale, k.inverse, c);
#pragma unroll
    for (int j = 0; j < width; j++) scale[j] = inverse_of(scale[j]);
    if (k.beta) take(shift, k.beta, c);
    if (k.slope) take(slope, k.slope, c);
    if (!k.gamma) return;
    float gamma[width];
    take(gamma, k.gamma, c);
#pragma unroll
    for (int j = 0; j < width; j++) scale[j] *= gamma[j];
  }
  __device__ Constants(const Channel& k, int c, int channels) : Constants(k, c, channels, [](float inverse) { return inverse; }) {}
};

// If `summed`, also leaves the sums of a chunk (channel_sums.h). With PReLU or a residual it walks backwards: there it nearly always follows a
// convolution, which has just written the end of x, and is followed by a kernel that begins at the beginning.
template <class T, int width, bool prelu, bool residual, bool summed>
__global__ void __launch_bounds__(row_threads, summed ? 2 : 4)
    forward_kernel(T* y, float* chunk_sums, const T* x, const T* more, Channel k, Update update, Rows<width> rows) {
  begin_kernel();
  const int c = rows.channel();
  const Constants<width> of(k, c, rows.channels, [&](float given) { return update.moments ? inverse_of(given, update.epsilon) : given; });
  float sum[2][width] = {};
  const auto use = [&](int64_t offset, const auto& in) {
    Group<T, width> out;
#pragma unroll
    for (int j = 0; j < width; j++) {
      float z = (float(in[0].v[j]) - of.mean[j]) * of.scale[j] + of.shift[j];
      if constexpr (prelu) z = z > 0 ? z : of.slope[j] * z;
      if constexpr (residual) z += float(in[1].v[j]);
      out.v[j] = T(z);
      if constexpr (summed) z = float(out.v[j]), sum[0][j] += z, sum[1][j] += z * z;
    }
    *reinterpret_cast<Group<T, width>*>(y + offset) = out;
  };
  if constexpr (residual) rows.template each<true, 2>({x, more}, use);
  else rows.template each<prelu, prelu ? 2 : 4>({x}, use);
  if constexpr (summed) leave_sums(chunk_sums, sum, rows.channels);
  if (update.moments && blockIdx.y == 0 && threadIdx.y == 0 && c < rows.channels)
    for (int j = 0; j < width; j++) update.leave(c + j, rows.channels, k.mean[c + j], k.inverse[c + j], rows.rows);
}

// Sums of g, of g (x - mean), and with PReLU of z dy where z <= 0.
template <class T, int width, bool prelu>
__global__ void __launch_bounds__(row_threads, prelu ? 2 : 4)
    backward_sums_kernel(float* partial, const T* dy, const T* x, Channel k, Rows<width> rows) {
  begin_kernel();
  const Constants<width> of(k, rows.channel(), rows.channels);
  float sum[prelu ? 3 : 2][width] = {};
  rows.template each<true, prelu ? 4 : 2>({x, dy}, [&](int64_t, const Group<T, width>(&in)[2]) {
#pragma unroll
    for (int j = 0; j < width; j++) {
      const float d = float(in[0].v[j]) - of.mean[j];
      float g = float(in[1].v[j]);
      if constexpr (prelu) {
        const float z = d * of.scale[j] + of.shift[j];
        if (!(z > 0)) sum[2][j] += z * g, g *= of.slope[j];
      }
      sum[0][j] += g, sum[1][j] += g * d;
    }
  });
  leave_sums(partial, sum, rows.channels);
}

// The gradients of the channels' parameters, and the constants of dx = scale g + offset + (x - mean) slant + more.
template <bool prelu>
__global__ void finish_backward_kernel(float* dgamma, float* dbeta, float* dslope, float* offset, float* slant, const float* partial,
                                       Channel k, int chunks, int64_t rows, int channels, int training) {
  begin_kernel();
  const int c = int(blockIdx.x) * finish_columns + int(threadIdx.x);
  double total[prelu ? 3 : 2];
  add_chunks(total, partial, chunks, c, channels);
  if (threadIdx.y != 0 || c >= channels) return;
  const double sum_g = total[0], sum_gh = total[1] * double(k.inverse[c]);
  dbeta[c] = float(sum_g), dgamma[c] = float(sum_gh);
  if constexpr (prelu) dslope[c] = float(total[2]);
  offset[c] = training ? float(-double(k.scale(c)) * sum_g / double(rows)) : 0.0f;
  slant[c] = training ? float(-double(k.scale(c)) * double(k.inverse[c]) * sum_gh / double(rows)) : 0.0f;
}

template <class T, int width, bool prelu, bool added>
__global__ void __launch_bounds__(row_threads, 2)
    backward_kernel(T* dx, const T* dy, const T* x, const T* more, const float* offset, const float* slant, Channel k, Rows<width> rows) {
  begin_kernel();
  const int c = rows.channel();
  const Constants<width> of(k, c, rows.channels);
  float constant[width] = {}, factor[width] = {};
  if (c < rows.channels) take(constant, offset, c), take(factor, slant, c);
  const auto use = [&](int64_t at, const auto& in) {
    Group<T, width> out;
#pragma unroll
    for (int j = 0; j < width; j++) {
      const float d = float(in[0].v[j]) - of.mean[j];
      float g = float(in[1].v[j]);
      if constexpr (prelu)
        if (!(d * of.scale[j] + of.shift[j] > 0)) g *= of.slope[j];
      float result = of.scale[j] * g + constant[j] + d * factor[j];
      if constexpr (added) result += float(in[2].v[j]);
      out.v[j] = T(result);
    }
    *reinterpret_cast<Group<T, width>*>(dx + at) = out;
  };
  if constexpr (added) rows.template each<false, 4>({x, dy, more}, use);
  else rows.template each<false, 4>({x, dy}, use);
}

template <class F> void with_flags(bool a, bool b, F f) {
  if (a) b ? f.template operator()<true, true>() : f.template operator()<true, false>();
  else b ? f.template operator()<false, true>() : f.template operator()<false, false>();
}

template <class T>
void forward(Context& context, Out y, Out statistics, In x, const Channel& k, const Update& update, In residual, int64_t rows,
             int64_t channels) {
  const T* more = residual.size > 0 ? residual.as<T>() : nullptr;
  bool left = false;
  with_width<T>(packs_of<T>(k, channels, y.as<T>(), x.as<T>(), more), [&]<int width>() {
    const auto run = [&]<bool prelu, bool added, bool summed>() {
      const Walk walk(rows, channels, width, summed ? 2 : 4);
      float* const sums = chunk_sums(context, summed ? statistics : MaybeOut{}, walk.chunks, channels);
      launch(context, forward_kernel<T, width, prelu, added, summed>, walk.grid, walk.block, 0, y.as<T>(), sums, x.as<T>(), more, k,
             update, Rows<width>(walk));
      if (summed) finish_statistics(context, statistics, sums, walk.chunks, rows, channels);
    };
    with_flags(k.slope, more, [&]<bool prelu, bool added>() {
      if constexpr (std::is_same_v<T, bfloat16>)
        if ((left = statistics.size > 0)) return run.template operator()<prelu, added, true>();
      run.template operator()<prelu, added, false>();
    });
  });
  if (statistics.size > 0 && !left) channel_statistics(context, statistics, {y.data, y.size, y.dtype}, rows, channels);
}

}  // namespace

// A finishing block has few channels, and walks over all their chunks alone. Where there are more chunks than this, the whole GPU first adds
// them up to fewer.
#ifdef TURL_EMULATED
constexpr int64_t most_chunks = 8;
#else
constexpr int64_t most_chunks = 2048;
#endif

void finish_statistics(Context& context, Out statistics, const float* partial, int chunks, int64_t rows, int64_t channels) {
  if (chunks > most_chunks) {
    const int64_t at_once = ceil_div<int64_t>(chunks, most_chunks / 4), fewer = ceil_div<int64_t>(chunks, at_once);
    float* const sums = chunk_sums(context, statistics, fewer, channels);
    add_some_parts(context, sums, partial, at_once, chunks, 2 * channels);
    partial = sums, chunks = int(fewer);
  }
  launch(context, finish_statistics_kernel<float>, finish_grid(channels), finish_block(), 0, statistics.as<float>(), nullptr, partial, chunks,
         rows, channels);
}

void channel_statistics(Context& context, Out statistics, In y, int64_t rows, int64_t channels) {
  with_float(y.dtype, [&]<class T>() {
    with_width<T>(packs<T>(channels, y.as<T>()), [&]<int width>() {
      const Walk walk(rows, channels, width);
      auto* const partial = chunk_sums(context, statistics, walk.chunks, channels);
      launch(context, statistics_kernel<T, width>, walk.grid, walk.block, 0, partial, y.as<T>(), Rows<width>(walk));
      launch(context, finish_statistics_kernel<T>, finish_grid(channels), finish_block(), 0, statistics.as<float>(), y.as<T>(), partial,
             walk.chunks, rows, channels);
    });
  });
}

// The moments in evaluation, from the running statistics.
void batch_norm_moments(Context& context, Out moments, In mean, In variance, double epsilon) {
  launch(context, moments_kernel, blocks_for(variance.size, 128), 128, 0, moments.as<float>(), mean.as<float>(),
         variance.as<float>(), epsilon, variance.size);
}

void batch_norm_training(Context& context, Out y, MaybeOut y_statistics, Out moments, Out running_mean, Out running_variance, In x,
                         MaybeIn x_statistics, In running_mean0, In running_variance0, MaybeIn gamma, MaybeIn beta, MaybeIn slope,
                         MaybeIn residual, int64_t rows, int64_t channels, double momentum, double epsilon) {
  const float* known = x_statistics.size > 0 ? x_statistics.as<float>() : nullptr;
  if (!known) {
    auto* const own = static_cast<float*>(context.scratch(size_t(2 * channels) * sizeof(float)));
    channel_statistics(context, {own, 2 * channels, DType::float32}, x, rows, channels);
    known = own;
  }
  const Channel k = channel_of(known, gamma, beta, slope, channels);
  const Update update{moments.as<float>(),       running_mean.as<float>(),      running_variance.as<float>(),
                      running_mean0.as<float>(), running_variance0.as<float>(), momentum, epsilon};
  with_float(x.dtype, [&]<class T>() { forward<T>(context, y, y_statistics, x, k, update, residual, rows, channels); });
}

void batch_norm_forward(Context& context, Out y, In x, In moments, MaybeIn gamma, MaybeIn beta, MaybeIn slope, MaybeIn residual,
                        int64_t rows, int64_t channels) {
  const Channel k = channel_of(moments.as<float>(), gamma, beta, slope, channels);
  with_float(x.dtype, [&]<class T>() { forward<T>(context, y, MaybeOut{}, x, k, Update{}, residual, rows, channels); });
}

void batch_norm_backward(Context& context, MaybeOut dx, Out dgamma, Out dbeta, MaybeOut dslope, In dy, In x, In moments,
                         MaybeIn gamma, MaybeIn beta, MaybeIn slope, MaybeIn more, int64_t rows, int64_t channels,
                         int64_t training) {
  with_float(x.dtype, [&]<class T>() {
    const Channel k = channel_of(moments.as<float>(), gamma, beta, slope, channels);
    const T* rest = more.size > 0 ? more.as<T>() : nullptr;
    const T* result = dx.size > 0 ? dx.as<T>() : nullptr;
    with_width<T>(packs_of<T>(k, channels, result, dy.as<T>(), x.as<T>(), rest), [&]<int width>() {
      with_flags(k.slope, rest, [&]<bool prelu, bool added>() {
        const Walk walk(rows, channels, width, prelu ? 2 : 4), second(rows, channels, width, 2);
        auto* partial = static_cast<float*>(context.scratch(size_t((walk.chunks * 3 + 2) * channels) * sizeof(float)));
        float *offset = partial + walk.chunks * 3 * channels, *slant = offset + channels;
        launch(context, backward_sums_kernel<T, width, prelu>, walk.grid, walk.block, 0, partial, dy.as<T>(), x.as<T>(), k,
               Rows<width>(walk));
        launch(context, finish_backward_kernel<prelu>, finish_grid(channels), finish_block(), 0, dgamma.as<float>(),
               dbeta.as<float>(), prelu ? dslope.as<float>() : nullptr, offset, slant, partial, k, walk.chunks, rows, channels,
               training);
        if (result)
          launch(context, backward_kernel<T, width, prelu, added>, second.grid, second.block, 0, dx.as<T>(), dy.as<T>(), x.as<T>(), rest,
                 offset, slant, k, Rows<width>(second));
      });
    });
  });
}

}  // namespace turl
