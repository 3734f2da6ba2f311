// PReLU: y = x where x > 0, slope[c] x elsewhere. x, y [rows, channels], slope [channels].
//   dx = dy where x > 0, slope[c] dy elsewhere; dslope[c] = sum over rows of x dy where x <= 0.
#include "cpu/parallel.h"
#include "kernels.h"

namespace turl {

void prelu_forward(Context& context, Out y, In x, In slope, int64_t rows, int64_t channels) {
  with_float(x.dtype, [&]<class T>() {
    using A = acc_t<T>;
    const A* a = slope.as<A>();
    const T* in = x.as<T>();
    T* out = y.as<T>();
    parallel_for(context, rows, std::max<int64_t>(1, 16384 / channels), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        const T* xi = in + i * channels;
        T* yi = out + i * channels;
        for (int64_t c = 0; c < channels; c++) yi[c] = T(A(xi[c]) > 0 ? A(xi[c]) : a[c] * A(xi[c]));
      }
    });
  });
}

// Each chunk of rows sums dslope by itself; the chunks are then added in order.
void prelu_backward(Context& context, Out dx, Out dslope, In dy, In x, In slope, int64_t rows, int64_t channels) {
  with_float(x.dtype, [&]<class T>() {
    using A = acc_t<T>;
    const A* a = slope.as<A>();
    const T *in = x.as<T>(), *g = dy.as<T>();
    T* out = dx.as<T>();
    A* total = dslope.as<A>();
    int64_t grain = std::max<int64_t>(1, std::max(16384 / channels, rows / 64));
    int64_t chunks = (rows + grain - 1) / grain;
    A* partial = static_cast<A*>(context.scratch(size_t(std::max<int64_t>(chunks, 1) * channels) * sizeof(A)));
    parallel_chunks(context, chunks, [&](int64_t chunk) {
      A* sum = partial + chunk * channels;
      std::fill(sum, sum + channels, A(0));
      for (int64_t i = chunk * grain; i < std::min(rows, (chunk + 1) * grain); i++) {
        const T *xi = in + i * channels, *gi = g + i * channels;
        T* oi = out + i * channels;
        for (int64_t c = 0; c < channels; c++) {
          A v = A(xi[c]), d = A(gi[c]);
          oi[c] = T(v > 0 ? d : a[c] * d);
          sum[c] += v > 0 ? A(0) : v * d;
        }
      }
    });
    std::fill(total, total + channels, A(0));
    for (int64_t chunk = 0; chunk < chunks; chunk++)
      for (int64_t c = 0; c < channels; c++) total[c] += partial[chunk * channels + c];
  });
}

}  // namespace turl
