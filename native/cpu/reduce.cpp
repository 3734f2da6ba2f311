// Reductions of x [outer, n, inner] over n. Sums are formed in double, chunk by chunk of n, in an order that depends on the
// sizes only.
#include "cpu/lanes.h"
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

// The largest of the values at N places, and where it is; a NaN counts as larger than any number.
template <class A, int N> struct Largest {
  A value[N];
  int32_t place[N];

  // Takes v and its place `at` for value[k] and place[k] if v is larger, or equal and earlier.
  void take(int k, A v, int32_t at) {
    const bool nan = value[k] != value[k], same = v == value[k] || (nan && v != v);
    const bool more = same ? at < place[k] : !(v <= value[k]) && !nan;
    value[k] = more ? v : value[k], place[k] = more ? at : place[k];
  }
};

// The largest of each of N columns of x [n, stride].
template <int N, class T> Largest<acc_t<T>, N> largest_of_columns(const T* x, int64_t n, int64_t stride) {
  using A = acc_t<T>;
  Largest<A, N> best;
  for (int k = 0; k < N; k++) best.value[k] = A(x[k]), best.place[k] = 0;
  for (int64_t i = 1; i < n; i++)
    for (int k = 0; k < N; k++) {
      const A v = A(x[i * stride + k]);
      const bool more = !(v <= best.value[k]) && best.value[k] == best.value[k];
      best.value[k] = more ? v : best.value[k], best.place[k] = more ? int32_t(i) : best.place[k];
    }
  return best;
}

// The largest of n consecutive elements, taken as rows of 16 columns and a remainder.
template <class T> Largest<acc_t<T>, 1> largest_of_row(const T* x, int64_t n) {
  using A = acc_t<T>;
  constexpr int N = 16;
  Largest<A, 1> best{{A(x[0])}, {0}};
  if (n >= N) {
    auto columns = largest_of_columns<N>(x, n / N, N);
    for (int k = 0; k < N; k++) columns.place[k] = columns.place[k] * N + k;
    for (int width = N / 2; width > 0; width /= 2)
      for (int k = 0; k < width; k++) columns.take(k, columns.value[k + width], columns.place[k + width]);
    best = {{columns.value[0]}, {columns.place[0]}};
  }
  for (int64_t i = n / N * N; i < n; i++) best.take(0, A(x[i]), int32_t(i));
  return best;
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
    const auto put = [&]<int N>(int64_t at, const Largest<A, N>& largest) {
      for (int k = 0; k < N; k++) out[at + k] = T(largest.value[k]), places[at + k] = largest.place[k];
    };
    const int64_t width = std::min<int64_t>(inner, 64), blocks = (inner + 63) / 64;  // of columns
    parallel_for(context, outer * blocks, std::max<int64_t>(1, elements_per_chunk / std::max<int64_t>(1, n * width)),
                 [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; item++) {
        const int64_t o = item / blocks, first = item % blocks * 64;
        const T* x = in + o * n * inner;
        if (inner == 1) put(o, largest_of_row(x, n));
        else
          for_fixed_blocks(first, std::min(inner, first + 64), [&]<int N>(int64_t j) {
            put(o * inner + j, largest_of_columns<N>(x + j, n, inner));
          });
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
    parallel_for(context, dx.size, elements_per_chunk, [&](int64_t begin, int64_t end) { std::fill(out + begin, out + end, T(0.0f)); });
    parallel_for(context, dy.size, elements_per_chunk / 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) out[(i / inner * n + places[i]) * inner + i % inner] = g[i];
    });
  });
}

}  // namespace turl
