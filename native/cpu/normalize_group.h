// The l2 normalisation of groups of `size` elements and its gradient, for all kernels that normalise.
#pragma once
#include <algorithm>
#include "cpu/channels.h"
#include "cpu/lanes.h"

namespace turl {

// products[i] = x(i) . y(i), of `size` elements each, for i < count; as many of them at a time as there are lanes.
template <class A, class X, class Y> void dot_products(A* products, int64_t count, int64_t size, X x, Y y) {
  if constexpr (std::is_same_v<A, double>) {
    for (int64_t i = 0; i < count; i++) products[i] = dot(x(i), y(i), size);
  } else {
    for (int64_t i = 0; i < count; i += lanes) {
      vfloat sums[lanes] = {};
      const int64_t n = std::min<int64_t>(lanes, count - i);
      for (int64_t r = 0; r < n; r++) {
        const auto *a = x(i + r), *b = y(i + r);
        int64_t e = 0;
        for (; e + lanes <= size; e += lanes) sums[r] = fma(load(a + e), load(b + e), sums[r]);
        if (e < size) sums[r] = fma(load(a + e, int(size - e)), load(b + e, int(size - e)), sums[r]);
      }
      if (n == lanes) store(products + i, sum_each(sums));
      else store(products + i, sum_each(sums), int(n));
    }
  }
}

// inverse[i] = 1 / max(|x_i|, epsilon) for `count` groups x_i of `size` elements that lie one after the other.
template <class T> void inverse_norms(acc_t<T>* inverse, const T* x, int64_t count, int64_t size, acc_t<T> epsilon) {
  using L = Lanes<acc_t<T>>;
  const auto group = [&](int64_t i) { return x + i * size; };
  dot_products(inverse, count, size, group, group);
  const auto of = [&]<class V>(V square) { return 1 / L::max(L::splat(epsilon), L::sqrt(square)); };  // a NaN stays a NaN
  int64_t i = 0;
  for (; i + L::width <= count; i += L::width) store_lanes(inverse + i, of(load_lanes(inverse + i)));
  for (; i < count; i++) inverse[i] = L::first(of(L::splat(inverse[i])));
}

// y = scale x
template <class T, class U> void scale_group(U* y, const T* x, acc_t<T> scale, int64_t size) {
  using L = Lanes<acc_t<T>>;
  int64_t i = 0;
  for (; i + L::width <= size; i += L::width) store_lanes(y + i, L::splat(scale) * load_lanes(x + i));
  for (; i < size; i++) y[i] = U(scale * acc_t<T>(x[i]));
}

// projection[i] = inverse[i]^2 x(i) . dy(i), or 0 where the norm is below epsilon: there y is x / epsilon, whose length is free.
template <class A, class X, class Y>
void projections(A* projection, const A* inverse, int64_t count, int64_t size, A epsilon, X x, Y dy) {
  dot_products(projection, count, size, x, dy);
  for (int64_t i = 0; i < count; i++) projection[i] = inverse[i] * epsilon < 1 ? projection[i] * inverse[i] * inverse[i] : A(0);
}

// dx = inverse (dy - projection x), with streaming stores (channels.h) if `streaming`.
template <class T, class U> void project_group(U* dx, const T* dy, const T* x, acc_t<T> inverse, acc_t<T> projection, int64_t size,
                                                  bool streaming = false) {
  using A = acc_t<T>;
  using L = Lanes<A>;
  int64_t i = 0;
  for (; i + L::width <= size; i += L::width) {
    const auto v = L::splat(inverse) * (load_lanes(dy + i) - L::splat(projection) * load_lanes(x + i));
    if (streaming) put_rounded<true>(dx + i, v);
    else store_lanes(dx + i, v);
  }
  for (; i < size; i++) dx[i] = U(inverse * (A(dy[i]) - projection * A(x[i])));
}

}  // namespace turl
