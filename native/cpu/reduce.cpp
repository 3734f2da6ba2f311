// Reductions of x [outer, n, inner] over n. Sums are formed in double, chunk by chunk of n, in an order that depends on the
// sizes only.
#include "cpu/parallel.h"
#include "kernels.h"

namespace turl {
namespace {
constexpr int64_t elements_per_chunk = 1 << 16;
constexpr int64_t block = 256;  // columns summed at a time, so that the sums stay in the first-level cache

// total[0..count) = the sums over rows of x [rows, inner], of its first `count` columns.
template <class T> void sum_columns(double* total, const T* x, int64_t rows, int64_t inner, int64_t count) {
  std::fill(total, total + count, 0.0);
  for (int64_t r = 0; r < rows; r++)
    for (int64_t j = 0; j < count; j++) total[j] += double(x[r * inner + j]);
}

// The sum of n consecutive elements, in 16 interleaved partial sums.
template <class T> double sum_row(const T* x, int64_t n) {
  double part[16] = {};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (int k = 0; k < 16; k++) part[k] += double(x[i + k]);
  for (int k = 0; i < n; i++, k++) part[k] += double(x[i]);
  for (int width = 8; width > 0; width /= 2)
    for (int k = 0; k < width; k++) part[k] += part[k + width];
  return part[0];
}
}  // namespace

// y [outer, inner] = scale * sum over n
void sum(Context& context, Out y, In x, int64_t outer, int64_t n, int64_t inner, double scale) {
  with_float(x.dtype, [&]<class T>() {
    const T* in = x.as<T>();
    int64_t rows = std::max({int64_t(1), elements_per_chunk / std::max<int64_t>(inner, 1), (n + 63) / 64});
    int64_t chunks = std::max<int64_t>(1, (n + rows - 1) / rows);
    int64_t grain = std::max<int64_t>(1, elements_per_chunk / std::max<int64_t>(std::min(rows, n) * inner, 1));
    double* partial = static_cast<double*>(context.scratch(size_t(outer * chunks * inner) * sizeof(double)));
    parallel_for(context, outer * chunks, grain, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; task++) {
        int64_t first = task % chunks * rows, count = std::min(n, first + rows) - first;
        const T* start = in + (task / chunks * n + first) * inner;
        double* total = partial + task * inner;
        if (inner == 1) *total = sum_row(start, count);
        else
          for (int64_t j = 0; j < inner; j += block)
            sum_columns(total + j, start + j, count, inner, std::min(block, inner - j));
      }
    });
    auto finish = [&]<class Y>() {
      Y* out = y.as<Y>();
      for (int64_t o = 0; o < outer; o++)
        for (int64_t j = 0; j < inner; j++) {
          double total = 0;
          for (int64_t c = 0; c < chunks; c++) total += partial[(o * chunks + c) * inner + j];
          out[o * inner + j] = Y(total * scale);
        }
    };
    with_float(y.dtype, finish);
  });
}

// y [outer, inner] = the maximum over n >= 1, index its first place; a NaN counts as larger than any number.
void max_forward(Context& context, Out y, Out index, In x, int64_t outer, int64_t n, int64_t inner) {
  with_float(x.dtype, [&]<class T>() {
    using A = acc_t<T>;
    const T* in = x.as<T>();
    T* out = y.as<T>();
    int32_t* places = index.as<int32_t>();
    parallel_for(context, outer, std::max<int64_t>(1, elements_per_chunk / std::max<int64_t>(1, n * inner)),
                 [&](int64_t begin, int64_t end) {
      for (int64_t o = begin; o < end; o++) {
        T* best = out + o * inner;
        int32_t* place = places + o * inner;
        std::copy(in + o * n * inner, in + (o * n + 1) * inner, best);
        std::fill(place, place + inner, 0);
        for (int64_t i = 1; i < n; i++)
          for (int64_t j = 0; j < inner; j++) {
            A v = A(in[(o * n + i) * inner + j]), b = A(best[j]);
            if (v > b || (v != v && b == b)) best[j] = T(v), place[j] = int32_t(i);
          }
      }
    });
  });
}

// dx [outer, n, inner] = dy at the index, 0 elsewhere.
void max_backward(Context& context, Out dx, In dy, In index, int64_t outer, int64_t n, int64_t inner) {
  with_float(dx.dtype, [&]<class T>() {
    T* out = dx.as<T>();
    const T* g = dy.as<T>();
    const int32_t* places = index.as<int32_t>();
    parallel_for(context, outer * n, std::max<int64_t>(1, elements_per_chunk / std::max<int64_t>(1, inner)),
                 [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++)
        for (int64_t j = 0; j < inner; j++) {
          int64_t from = row / n * inner + j;
          out[row * inner + j] = places[from] == row % n ? g[from] : T(0.0f);
        }
    });
  });
}

}  // namespace turl
