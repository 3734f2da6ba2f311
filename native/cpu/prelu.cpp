// PReLU: y = x where x > 0, slope[c] x elsewhere. x, y [rows, channels], slope [channels].
//   dx = dy where x > 0, slope[c] dy elsewhere; dslope[c] = sum over rows of x dy where x <= 0.
#include "cpu/channels.h"
#include "cpu/parallel.h"
#include "kernels.h"

namespace turl {

void prelu_forward(Context& context, Out y, In x, In slope, int64_t rows, int64_t channels) {
  with_float(x.dtype, [&]<class T>() {
    const acc_t<T>* a = slope.as<acc_t<T>>();
    const T* in = x.as<T>();
    T* out = y.as<T>();
    parallel_for(context, rows, RowChunks(rows, channels).grain, [&](int64_t begin, int64_t end) {
      for_rows<T>(begin, end, channels, [=]<class V>(int64_t c) {
        return [=, slope = get<V>(a + c)](int64_t at) {
          V v = get<V>(in + at);
          put(out + at, v > V{} ? v : slope * v);
        };
      });
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
    RowChunks chunks(rows, channels);
    double* partial = static_cast<double*>(context.scratch(size_t(chunks.count * channels) * sizeof(double)));
    parallel_chunks(context, chunks.count, [&](int64_t chunk) {
      sum_rows<T, 1>(partial + chunk * channels, chunks.begin(chunk), chunks.end(chunk), channels,
                     [=]<class V>(int64_t c) {
        return [=, slope = get<V>(a + c)](int64_t at, V* sums) {
          V v = get<V>(in + at), d = get<V>(g + at);
          put(out + at, v > V{} ? d : slope * d);
          sums[0] += v > V{} ? V{} : v * d;
        };
      });
    });
    add_chunks(context, partial, chunks.count, channels);
    for (int64_t c = 0; c < channels; c++) dslope.as<A>()[c] = A(partial[c]);
  });
}

}  // namespace turl
