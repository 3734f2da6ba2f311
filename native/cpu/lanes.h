// One vocabulary for float vectors and for plain doubles, so that a kernel written once is fast in float32 and checkable in
// float64: Lanes<float>::V holds `lanes` floats, Lanes<double>::V is one double.
#pragma once
#include "cpu/simd.h"

namespace turl {

template <class A> struct Lanes;

template <> struct Lanes<float> {
  using V = vfloat;
  static constexpr int width = lanes;
  static V splat(float x) { return turl::splat(x); }
  static V fma(V a, V b, V c) { return turl::fma(a, b, c); }
  static V max(V a, V b) { return vmax(a, b); }
  static V exp(V x) { return turl::exp(x); }
  static V log(V x) { return turl::log(x); }
  static V sqrt(V x) { return turl::sqrt(x); }
  static float sum(V x) { return turl::sum(x); }
  static float first(V x) { return x[0]; }
};

template <> struct Lanes<double> {
  using V = double;
  static constexpr int width = 1;
  static V splat(double x) { return x; }
  static V fma(V a, V b, V c) { return a * b + c; }
  static V max(V a, V b) { return a > b ? a : b; }
  static V exp(V x) { return std::exp(x); }
  static V log(V x) { return std::log(x); }
  static V sqrt(V x) { return std::sqrt(x); }
  static double sum(V x) { return x; }
  static double first(V x) { return x; }
};

// The elements of a T as lanes of its accumulator.
inline vfloat load_lanes(const float* p) { return load(p); }
inline vfloat load_lanes(const bfloat16* p) { return load(p); }
inline double load_lanes(const double* p) { return *p; }
inline void store_lanes(float* p, vfloat v) { store(p, v); }
inline void store_lanes(bfloat16* p, vfloat v) { store(p, v); }
inline void store_lanes(double* p, double v) { *p = v; }

// Sum of x[i] y[i] over i < n, always added in the same order.
template <class T, class U> acc_t<T> dot(const T* x, const U* y, int64_t n) {
  using A = acc_t<T>;
  using L = Lanes<A>;
  typename L::V vector{};
  int64_t i = 0;
  for (; i + L::width <= n; i += L::width) vector = L::fma(load_lanes(x + i), load_lanes(y + i), vector);
  A total = L::sum(vector);
  for (; i < n; i++) total += A(x[i]) * A(y[i]);
  return total;
}

}  // namespace turl
