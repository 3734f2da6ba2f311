// A bias for each channel: y = x + bias, dbias[c] = sum over rows of dy. x, y [rows, channels]; bias [channels] is float32 for
// bfloat16 x, so that it is added before its sum is rounded.
#include "cpu/lanes.h"
#include "cpu/parallel.h"
#include "kernels.h"

namespace turl {

void bias_forward(Context& context, Out y, In x, In bias, int64_t rows, int64_t channels) {
  with_float(x.dtype, [&]<class T>() {
    using A = acc_t<T>;
    const A* b = bias.as<A>();
    const T* in = x.as<T>();
    T* out = y.as<T>();
    parallel_for(context, rows, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, channels)), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++)
        for (int64_t c = 0; c < channels; c++) out[i * channels + c] = T(A(in[i * channels + c]) + b[c]);
    });
  });
}

// Each chunk of channels sums all rows in order.
void bias_backward(Context& context, Out dbias, In dy, int64_t rows, int64_t channels) {
  with_float(dy.dtype, [&]<class T>() {
    using A = acc_t<T>;
    const T* g = dy.as<T>();
    A* total = dbias.as<A>();
    parallel_for(context, channels, 64, [&](int64_t begin, int64_t end) {
      for_fixed_blocks(begin, end, [&]<int N>(int64_t first) {
        A sum[N] = {};
        for (int64_t i = 0; i < rows; i++)
          for (int k = 0; k < N; k++) sum[k] += A(g[i * channels + first + k]);
        std::copy_n(sum, N, total + first);
      });
    });
  });
}

}  // namespace turl
