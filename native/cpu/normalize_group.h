// The l2 normalisation of one group of `size` elements and its gradient, for the kernels that normalise as they read.
#pragma once
#include "cpu/lanes.h"

namespace turl {

// 1 / max(|x|, epsilon)
template <class T> acc_t<T> inverse_norm(const T* x, int64_t size, acc_t<T> epsilon) {
  acc_t<T> norm = std::sqrt(dot(x, x, size));
  return 1 / (norm < epsilon ? epsilon : norm);  // a NaN stays a NaN
}

// y = scale x
template <class T, class U> void scale_group(U* y, const T* x, acc_t<T> scale, int64_t size) {
  using L = Lanes<acc_t<T>>;
  int64_t i = 0;
  for (; i + L::width <= size; i += L::width) store_lanes(y + i, L::splat(scale) * load_lanes(x + i));
  for (; i < size; i++) y[i] = U(scale * acc_t<T>(x[i]));
}

// dx = inverse (dy - along x). With x not normalised, along = (x . dy) inverse^2; with x normalised, along = x . dy.
template <class T, class U> void project_group(U* dx, const T* dy, const T* x, acc_t<T> inverse, acc_t<T> along, int64_t size) {
  using A = acc_t<T>;
  using L = Lanes<A>;
  int64_t i = 0;
  for (; i + L::width <= size; i += L::width)
    store_lanes(dx + i, L::splat(inverse) * (load_lanes(dy + i) - L::splat(along) * load_lanes(x + i)));
  for (; i < size; i++) dx[i] = U(inverse * (A(dy[i]) - along * A(x[i])));
}

}  // namespace turl
