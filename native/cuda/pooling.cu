// Pooling over windows of x [batch, height, width, channels], one element of the result a thread; the formulas are in pooling.h.
#include "pooling.h"
#include "cuda/device.h"
#include "kernels.h"

namespace turl {
namespace {

template <class T> __global__ void max_pool_forward_kernel(T* y, int32_t* index, const T* x, Pooling pooling, int64_t n) {
  begin_kernel();
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, channels = pooling.channels;
  if (i < n) pooling.maximum<1>(y, index, x, i / channels, i % channels);
}
template <class T> __global__ void max_pool_backward_kernel(T* dx, const T* dy, const int32_t* index, Pooling pooling, int64_t n) {
  begin_kernel();
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, channels = pooling.channels;
  if (i < n) pooling.maximum_gradient<1>(dx, dy, index, i / channels, i % channels);
}
template <class T> __global__ void average_pool_forward_kernel(T* y, const T* x, Pooling pooling, int64_t n) {
  begin_kernel();
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, channels = pooling.channels;
  if (i < n) pooling.average<1>(y, x, i / channels, i % channels);
}
template <class T> __global__ void average_pool_backward_kernel(T* dx, const T* dy, Pooling pooling, int64_t n) {
  begin_kernel();
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, channels = pooling.channels;
  if (i < n) pooling.average_gradient<1>(dx, dy, i / channels, i % channels);
}

}  // namespace

void max_pool_forward(Context& context, Out y, Out index, In x, int64_t batch, int64_t height, int64_t width, int64_t channels,
                      int64_t out_height, int64_t out_width, int64_t window, int64_t stride, int64_t padding) {
  Pooling pooling{batch, height, width, channels, out_height, out_width, window, stride, padding};
  with_float(y.dtype, [&]<class T>() {
    launch(context, max_pool_forward_kernel<T>, blocks_for(y.size, 256), 256, 0, y.as<T>(), index.as<int32_t>(), x.as<T>(), pooling, y.size);
  });
}

void max_pool_backward(Context& context, Out dx, In dy, In index, int64_t batch, int64_t height, int64_t width, int64_t channels,
                       int64_t out_height, int64_t out_width, int64_t window, int64_t stride, int64_t padding) {
  Pooling pooling{batch, height, width, channels, out_height, out_width, window, stride, padding};
  with_float(dx.dtype, [&]<class T>() {
    launch(context, max_pool_backward_kernel<T>, blocks_for(dx.size, 256), 256, 0, dx.as<T>(), dy.as<T>(), index.as<int32_t>(), pooling, dx.size);
  });
}

void average_pool_forward(Context& context, Out y, In x, int64_t batch, int64_t height, int64_t width, int64_t channels,
                          int64_t out_height, int64_t out_width, int64_t window, int64_t stride, int64_t padding) {
  Pooling pooling{batch, height, width, channels, out_height, out_width, window, stride, padding};
  with_float(y.dtype, [&]<class T>() {
    launch(context, average_pool_forward_kernel<T>, blocks_for(y.size, 256), 256, 0, y.as<T>(), x.as<T>(), pooling, y.size);
  });
}

void average_pool_backward(Context& context, Out dx, In dy, int64_t batch, int64_t height, int64_t width, int64_t channels,
                           int64_t out_height, int64_t out_width, int64_t window, int64_t stride, int64_t padding) {
  Pooling pooling{batch, height, width, channels, out_height, out_width, window, stride, padding};
  with_float(dx.dtype, [&]<class T>() {
    launch(context, average_pool_backward_kernel<T>, blocks_for(dx.size, 256), 256, 0, dx.as<T>(), dy.as<T>(), pooling, dx.size);
  });
}

}  // namespace turl
