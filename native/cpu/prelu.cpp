// PReLU: y = x where x > 0, slope[c] x elsewhere. x, y [rows, channels], slope [channels].
#include "cpu/parallel.h"
#include "kernels.h"

namespace turl {

void prelu_forward(Context& context, Out y, In x, In slope, int64_t rows, int64_t channels) {
  with_float(x.dtype, [&]<class T>() {
    using A = acc_t<T>;
    parallel_for(context, rows, std::max<int64_t>(1, 16384 / channels), [&](int64_t begin, int64_t end) {
      const A* a = slope.as<A>();
      for (int64_t i = begin; i < end; i++) {
        const T* xi = x.as<T>() + i * channels;
        T* yi = y.as<T>() + i * channels;
        for (int64_t c = 0; c < channels; c++) yi[c] = T(A(xi[c]) > 0 ? A(xi[c]) : a[c] * A(xi[c]));
      }
    });
  });
}

}  // namespace turl
