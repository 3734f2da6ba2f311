// PReLU: y = x where x > 0, slope[c] x elsewhere. x, y [rows, channels], slope [channels].
//   dx = dy where x > 0, slope[c] dy elsewhere; dslope[c] = sum over rows of x dy where x <= 0.
#include "cuda/add_parts.h"
#include "cuda/rows.h"
#include "kernels.h"

namespace turl {
namespace {

template <class T, int width>
__global__ void __launch_bounds__(row_threads, 4) prelu_forward_kernel(T* y, const T* x, const float* slope, Rows<width> rows) {
  begin_kernel();
  float a[width] = {};
  if (rows.channel() < rows.channels) take(a, slope, rows.channel());
  rows.template each<false, 4>({x}, [&](int64_t offset, const Group<T, width>(&in)[1]) {
    Group<T, width> out;
#pragma unroll
    for (int j = 0; j < width; j++) {
      const float v = float(in[0].v[j]);
      out.v[j] = T(v > 0 ? v : a[j] * v);
    }
    *reinterpret_cast<Group<T, width>*>(y + offset) = out;
  });
}

// Reads x and dy once, writes dx and a chunk's sums of dslope.
template <class T, int width>
__global__ void __launch_bounds__(row_threads, 4)
    prelu_backward_kernel(T* dx, float* partial, const T* dy, const T* x, const float* slope, Rows<width> rows) {
  begin_kernel();
  float a[width] = {}, sum[1][width] = {};
  if (rows.channel() < rows.channels) take(a, slope, rows.channel());
  rows.template each<false, 2>({x, dy}, [&](int64_t offset, const Group<T, width>(&in)[2]) {
    Group<T, width> out;
#pragma unroll
    for (int j = 0; j < width; j++) {
      const float v = float(in[0].v[j]), d = float(in[1].v[j]);
      out.v[j] = T(v > 0 ? d : a[j] * d);
      sum[0][j] += v > 0 ? 0.0f : v * d;
    }
    *reinterpret_cast<Group<T, width>*>(dx + offset) = out;
  });
  leave_sums(partial, sum, rows.channels);
}

}  // namespace

void prelu_forward(Context& context, Out y, In x, In slope, int64_t rows, int64_t channels) {
  with_float(x.dtype, [&]<class T>() {
    const float* a = slope.as<float>();
    with_width<T>(packs<T>(channels, y.as<T>(), x.as<T>(), a), [&]<int width>() {
      const Walk walk(rows, channels, width);
      launch(context, prelu_forward_kernel<T, width>, walk.grid, walk.block, 0, y.as<T>(), x.as<T>(), a, Rows<width>(walk));
    });
  });
}

void prelu_backward(Context& context, Out dx, Out dslope, In dy, In x, In slope, int64_t rows, int64_t channels) {
  with_float(x.dtype, [&]<class T>() {
    const float* a = slope.as<float>();
    with_width<T>(packs<T>(channels, dx.as<T>(), dy.as<T>(), x.as<T>(), a), [&]<int width>() {
      const Walk walk(rows, channels, width);
      auto* partial = static_cast<float*>(context.scratch(size_t(walk.chunks * channels) * sizeof(float)));
      launch(context, prelu_backward_kernel<T, width>, walk.grid, walk.block, 0, dx.as<T>(), partial, dy.as<T>(), x.as<T>(), a,
             Rows<width>(walk));
      add_parts(context, dslope.as<float>(), partial, walk.chunks, channels);
    });
  });
}

}  // namespace turl
