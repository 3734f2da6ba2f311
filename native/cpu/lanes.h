// The same words for vectors of floats and for single doubles, so that a kernel is written once, fast in float32 and checkable in float64.
// Lanes<float>::V holds `lanes` floats, Lanes<double>::V is one double.
#pragma once
#include "cpu/vector_math.h"

namespace turl {

template <class A> struct Lanes;

template <> struct Lanes<float> {
  using V = vfloat;
  static constexpr int width = lanes;
  static V splat(float x) { return turl::splat(x); }
  static V fma(V a, V b, V c) { return turl::fma(a, b, c); }
  static V max(V a, V b) { return vmax(a, b); }
  static V exp(V x) { return turl::exp(x); }
  static V log_of_normal(V x) { return turl::log_of_normal(x); }
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
  static V log_of_normal(V x) { return std::log(x); }
  static V sqrt(V x) { return std::sqrt(x); }
  static double sum(V x) { return x; }
  static double first(V x) { return x; }
};

// Loads and stores of elements of T as lanes of T's accumulator; with n, only of the first n.
inline vfloat load_lanes(const float* p) { return load(p); }
inline vfloat load_lanes(const bfloat16* p) { return load(p); }
inline double load_lanes(const double* p) { return *p; }
inline vfloat load_lanes(const float* p, int n) { return load(p, n); }
inline vfloat load_lanes(const bfloat16* p, int n) { return load(p, n); }
inline double load_lanes(const double* p, int) { return *p; }
inline void store_lanes(float* p, vfloat v) { store(p, v); }
inline void store_lanes(bfloat16* p, vfloat v) { store(p, v); }
inline void store_lanes(double* p, double v) { *p = v; }
inline void store_lanes(float* p, vfloat v, int n) { store(p, v, n); }
inline void store_lanes(bfloat16* p, vfloat v, int n) { store(p, v, n); }
inline void store_lanes(double* p, double v, int) { *p = v; }

// f(i, n) for runs of n elements of [begin, end) from i on; n is the number of lanes, but may be less for the last run.
template <class A, class F> void for_lanes(int64_t begin, int64_t end, F&& f) {
  constexpr int width = Lanes<A>::width;
  int64_t i = begin;
  for (; i + width <= end; i += width) f(i, width);
  if (i < end) f(i, int(end - i));
}

// f.operator()<N>(i) for blocks of N = 64, 16 or 1 elements of [begin, end), each as long as possible. Since N is known at compile time,
// the compiler makes vectors of loops over it.
template <class F> void for_fixed_blocks(int64_t begin, int64_t end, F&& f) {
  int64_t i = begin;
  for (; i + 64 <= end; i += 64) f.template operator()<64>(i);
  for (; i + 16 <= end; i += 16) f.template operator()<16>(i);
  for (; i < end; i++) f.template operator()<1>(i);
}

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
