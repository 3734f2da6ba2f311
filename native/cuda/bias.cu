// A bias for each channel: y = x + bias, dbias[c] = sum over rows of dy. x, y [rows, channels]; bias [channels] is float32.
#include "cuda/device.h"
#include "kernels.h"

namespace turl {
namespace {

template <class T> __global__ void bias_forward_kernel(T* y, const T* x, const float* bias, int64_t n, int64_t channels) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n) y[i] = T(float(x[i]) + bias[i % channels]);
}

// A block sums 32 channels over all rows: 8 lines of threads take every eighth row, and their sums are added in order.
constexpr int columns = 32, lines = 8;
template <class T> __global__ void bias_backward_kernel(float* dbias, const T* dy, int64_t rows, int64_t channels) {
  TURL_SHARED(float, sums, [lines][columns]);
  const int64_t c = int64_t(blockIdx.x) * columns + threadIdx.x;
  float sum = 0;
  if (c < channels)
    for (int64_t i = threadIdx.y; i < rows; i += lines) sum += float(dy[i * channels + c]);
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || c >= channels) return;
  for (int line = 1; line < lines; line++) sum += sums[line][threadIdx.x];
  dbias[c] = sum;
}

}  // namespace

void bias_forward(Context& context, Out y, In x, In bias, int64_t rows, int64_t channels) {
  with_float(x.dtype, [&]<class T>() {
    launch(context, bias_forward_kernel<T>, blocks_for(rows * channels, 256), 256, 0, y.as<T>(), x.as<T>(), bias.as<float>(),
           rows * channels, channels);
  });
}

void bias_backward(Context& context, Out dbias, In dy, int64_t rows, int64_t channels) {
  with_float(dy.dtype, [&]<class T>() {
    launch(context, bias_backward_kernel<T>, blocks_for(channels, columns), dim3{columns, lines, 1}, 0, dbias.as<float>(),
           dy.as<T>(), rows, channels);
  });
}

}  // namespace turl
