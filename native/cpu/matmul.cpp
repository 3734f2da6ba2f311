// Matrix product: y[i] = op(a[i]) op(b[i]) for i < batch, op transposing or not; op(a) [m, k], op(b) [k, n], y [m, n].
// bfloat16 is widened to float32 and the result rounded once (or kept, when y is float32); float64 is computed plainly.
#include "cpu/widen.h"
#include "kernels.h"

namespace turl {
namespace {

template <class T>
void plain_matmul(Context& context, T* y, const T* a, const T* b, int64_t batch, int64_t m, int64_t n, int64_t k,
                  bool transpose_a, bool transpose_b) {
  parallel_for(context, batch * m, 8, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const T *ai = a + row / m * m * k, *bi = b + row / m * n * k;
      const int64_t i = row % m;
      T* out = y + row * n;
      std::fill(out, out + n, T(0));
      for (int64_t p = 0; p < k; p++) {
        const T v = ai[transpose_a ? p * m + i : i * k + p];
        for (int64_t j = 0; j < n; j++) out[j] += v * bi[transpose_b ? j * k + p : p * n + j];
      }
    }
  });
}

}  // namespace

void matmul(Context& context, Out y, In a, In b, int64_t batch, int64_t m, int64_t n, int64_t k, int64_t transpose_a,
            int64_t transpose_b) {
  if (y.size == 0) return;
  if (a.dtype == DType::float64)
    return plain_matmul(context, y.as<double>(), a.as<double>(), b.as<double>(), batch, m, n, k, transpose_a, transpose_b);
  const float *af = widened(context, a), *bf = widened(context, b);
  with_narrowed(context, y, [&](float* yf) { plain_matmul(context, yf, af, bf, batch, m, n, k, transpose_a, transpose_b); });
}

}  // namespace turl
