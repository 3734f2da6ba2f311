// fill, copy and cast of whole arrays: one element a thread, each read once and written once.
#include "cuda/device.h"
#include "kernels.h"

namespace turl {
namespace {

template <class T> __global__ void fill_kernel(T* y, T value, int64_t n) {
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n) y[i] = value;
}

template <class Y, class X> __global__ void cast_kernel(Y* y, const X* x, int64_t n) {
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n) y[i] = Y(x[i]);
}

}  // namespace

void fill(Context& context, Out y, double value) {
  with_any(y.dtype, [&]<class T>() {
    launch(context, fill_kernel<T>, blocks_for(y.size, 256), 256, 0, y.as<T>(), T(value), y.size);
  });
}

void copy(Context& context, Out y, In x) {
  with_any(x.dtype, [&]<class T>() {
    launch(context, cast_kernel<T, T>, blocks_for(y.size, 256), 256, 0, y.as<T>(), x.as<T>(), y.size);
  });
}

void cast(Context& context, Out y, In x) {
  with_any(y.dtype, [&]<class Y>() {
    with_any(x.dtype, [&]<class X>() {
      launch(context, cast_kernel<Y, X>, blocks_for(y.size, 256), 256, 0, y.as<Y>(), x.as<X>(), y.size);
    });
  });
}

}  // namespace turl
