// PReLU: y = x where x > 0, slope[c] x elsewhere. x, y [rows, channels], slope [channels].
//   dx = dy where x > 0, slope[c] dy elsewhere; dslope[c] = sum over rows of x dy where x <= 0.
#include <algorithm>
#include "cuda/device.h"
#include "kernels.h"

namespace turl {
namespace {

template <class T> __global__ void prelu_forward_kernel(T* y, const T* x, const float* slope, int64_t n, int channels) {
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  float v = float(x[i]);
  y[i] = T(v > 0 ? v : slope[i % channels] * v);
}

// A block handles 32 channels of one chunk of rows, 8 rows at a time; it reads x and dy once, writes dx, and leaves its sum of
// dslope in partial[chunk, channels].
constexpr int columns = 32, lines = 8;
template <class T>
__global__ void prelu_backward_kernel(T* dx, float* partial, const T* dy, const T* x, const float* slope, int64_t rows,
                                      int channels, int64_t chunk_rows) {
  TURL_SHARED(float, sums, [lines][columns]);
  int c = int(blockIdx.x) * columns + int(threadIdx.x);
  int64_t begin = blockIdx.y * chunk_rows, end = min(rows, begin + chunk_rows);
  float sum = 0;
  if (c < channels) {
    float a = slope[c];
    for (int64_t i = begin + threadIdx.y; i < end; i += lines) {
      float v = float(x[i * channels + c]), d = float(dy[i * channels + c]);
      dx[i * channels + c] = T(v > 0 ? d : a * d);
      sum += v > 0 ? 0.0f : v * d;
    }
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || c >= channels) return;
  for (int line = 1; line < lines; line++) sum += sums[line][threadIdx.x];
  partial[int64_t(blockIdx.y) * channels + c] = sum;
}

// The chunks' sums, added in order; one channel a thread.
__global__ void add_chunks_kernel(float* total, const float* partial, int chunks, int channels) {
  int c = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (c >= channels) return;
  float sum = 0;
  for (int chunk = 0; chunk < chunks; chunk++) sum += partial[int64_t(chunk) * channels + c];
  total[c] = sum;
}

}  // namespace

void prelu_forward(Context& context, Out y, In x, In slope, int64_t rows, int64_t channels) {
  with_float(x.dtype, [&]<class T>() {
    int64_t n = rows * channels;
    launch(context, prelu_forward_kernel<T>, blocks_for(n, 256), 256, 0, y.as<T>(), x.as<T>(), slope.as<float>(), n, channels);
  });
}

void prelu_backward(Context& context, Out dx, Out dslope, In dy, In x, In slope, int64_t rows, int64_t channels) {
  with_float(x.dtype, [&]<class T>() {
    int64_t chunk_rows = std::max<int64_t>(64, ceil_div<int64_t>(rows, 256)), chunks = ceil_div(rows, chunk_rows);
    auto* partial = static_cast<float*>(context.scratch(size_t(std::max<int64_t>(chunks, 1) * channels) * sizeof(float)));
    dim3 grid = {unsigned(ceil_div<int64_t>(channels, columns)), unsigned(chunks), 1};
    launch(context, prelu_backward_kernel<T>, grid, dim3{columns, lines, 1}, 0, dx.as<T>(), partial, dy.as<T>(), x.as<T>(),
           slope.as<float>(), rows, channels, chunk_rows);
    launch(context, add_chunks_kernel, blocks_for(channels, 128), 128, 0, dslope.as<float>(), partial, chunks, channels);
  });
}

}  // namespace turl
