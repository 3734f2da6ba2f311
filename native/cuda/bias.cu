// A bias for each channel: y = x + bias, dbias[c] = sum over rows of dy. x, y [rows, channels]; bias [channels] is float32.
#include "cuda/add_parts.h"
#include "cuda/rows.h"
#include "kernels.h"

namespace turl {
namespace {

template <class T, int width>
__global__ void __launch_bounds__(row_threads, 4) bias_forward_kernel(T* y, const T* x, const float* bias, Rows<width> rows) {
  begin_kernel();
  float b[width] = {};
  if (rows.channel() < rows.channels) take(b, bias, rows.channel());
  rows.template each<false, 4>({x}, [&](int64_t offset, const Group<T, width>(&in)[1]) {
    Group<T, width> out;
#pragma unroll
    for (int j = 0; j < width; j++) out.v[j] = T(float(in[0].v[j]) + b[j]);
    *reinterpret_cast<Group<T, width>*>(y + offset) = out;
  });
}

template <class T, int width>
__global__ void __launch_bounds__(row_threads, 4) bias_backward_kernel(float* partial, const T* dy, Rows<width> rows) {
  begin_kernel();
  float sum[1][width] = {};
  rows.template each<false, 4>({dy}, [&](int64_t, const Group<T, width>(&in)[1]) {
#pragma unroll
    for (int j = 0; j < width; j++) sum[0][j] += float(in[0].v[j]);
  });
  leave_sums(partial, sum, rows.channels);
}

}  // namespace

void bias_forward(Context& context, Out y, In x, In bias, int64_t rows, int64_t channels) {
  with_float(x.dtype, [&]<class T>() {
    const float* b = bias.as<float>();
    with_width<T>(packs<T>(channels, y.as<T>(), x.as<T>(), b), [&]<int width>() {
      const Walk walk(rows, channels, width);
      launch(context, bias_forward_kernel<T, width>, walk.grid, walk.block, 0, y.as<T>(), x.as<T>(), b, Rows<width>(walk));
    });
  });
}

void bias_backward(Context& context, Out dbias, In dy, int64_t rows, int64_t channels) {
  with_float(dy.dtype, [&]<class T>() {
    with_width<T>(packs<T>(channels, dy.as<T>()), [&]<int width>() {
      const Walk walk(rows, channels, width);
      auto* partial = static_cast<float*>(context.scratch(size_t(walk.chunks * channels) * sizeof(float)));
      launch(context, bias_backward_kernel<T, width>, walk.grid, walk.block, 0, partial, dy.as<T>(), Rows<width>(walk));
      add_parts(context, dbias.as<float>(), partial, walk.chunks, channels);
    });
  });
}

}  // namespace turl
