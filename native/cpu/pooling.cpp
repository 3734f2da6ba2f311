// Pooling over windows of x [batch, height, width, channels]; the formulas are in pooling.h.
#include "pooling.h"
#include "cpu/lanes.h"
#include "cpu/parallel.h"
#include "kernels.h"

namespace turl {
namespace {

// f.operator()<N>(p, c) for N channels from c on, of every pixel.
template <class F> void for_channels(Context& context, int64_t pixels, int64_t channels, F&& f) {
  parallel_for(context, pixels, std::max<int64_t>(1, 16384 / std::max<int64_t>(channels, 1)), [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; p++)
      for_fixed_blocks(0, channels, [&]<int N>(int64_t c) { f.template operator()<N>(p, c); });
  });
}

}  // namespace

void max_pool_forward(Context& context, Out y, Out index, In x, int64_t batch, int64_t height, int64_t width, int64_t channels,
                      int64_t out_height, int64_t out_width, int64_t window, int64_t stride, int64_t padding) {
  Pooling pooling{batch, height, width, channels, out_height, out_width, window, stride, padding};
  with_float(x.dtype, [&]<class T>() {
    const T* in = x.as<T>();
    T* out = y.as<T>();
    int32_t* places = index.as<int32_t>();
    for_channels(context, batch * out_height * out_width, channels, [&]<int N>(int64_t p, int64_t c) { pooling.maximum<N>(out, places, in, p, c); });
  });
}

void max_pool_backward(Context& context, Out dx, In dy, In index, int64_t batch, int64_t height, int64_t width, int64_t channels,
                       int64_t out_height, int64_t out_width, int64_t window, int64_t stride, int64_t padding) {
  Pooling pooling{batch, height, width, channels, out_height, out_width, window, stride, padding};
  with_float(dx.dtype, [&]<class T>() {
    const T* g = dy.as<T>();
    T* out = dx.as<T>();
    const int32_t* places = index.as<int32_t>();
    for_channels(context, batch * height * width, channels, [&]<int N>(int64_t p, int64_t c) { pooling.maximum_gradient<N>(out, g, places, p, c); });
  });
}

void average_pool_forward(Context& context, Out y, In x, int64_t batch, int64_t height, int64_t width, int64_t channels,
                          int64_t out_height, int64_t out_width, int64_t window, int64_t stride, int64_t padding) {
  Pooling pooling{batch, height, width, channels, out_height, out_width, window, stride, padding};
  with_float(x.dtype, [&]<class T>() {
    const T* in = x.as<T>();
    T* out = y.as<T>();
    for_channels(context, batch * out_height * out_width, channels, [&]<int N>(int64_t p, int64_t c) { pooling.average<N>(out, in, p, c); });
  });
}

void average_pool_backward(Context& context, Out dx, In dy, int64_t batch, int64_t height, int64_t width, int64_t channels,
                           int64_t out_height, int64_t out_width, int64_t window, int64_t stride, int64_t padding) {
  Pooling pooling{batch, height, width, channels, out_height, out_width, window, stride, padding};
  with_float(dx.dtype, [&]<class T>() {
    const T* g = dy.as<T>();
    T* out = dx.as<T>();
    for_channels(context, batch * height * width, channels, [&]<int N>(int64_t p, int64_t c) { pooling.average_gradient<N>(out, g, p, c); });
  });
}

}  // namespace turl
