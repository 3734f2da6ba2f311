// What the optimiser's kernels share on every device. The update rules of one element, where g is the gradient after scaling:
//   SGD with momentum:  v <- momentum v + g + decay p;  p <- p - lr v
//   AdamW (Loshchilov & Hutter 2019):  m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;
//     p <- p - lr (m / c1 / (sqrt(v / c2) + epsilon) + decay p),  c1 = 1 - b1^step, c2 = 1 - b2^step
#pragma once
#include <cmath>
#include <initializer_list>
#include "types.h"

namespace turl {

template <class T> struct SgdRule {
  T lr, momentum, decay;
  TURL_BOTH void operator()(T& p, T& v, T g) const {
    v = momentum * v + g + decay * p;
    p -= lr * v;
  }
};

template <class T> struct AdamWRule {
  T lr, beta1, rest1, beta2, rest2, epsilon, decay, correction1, correction2;  // rest = 1 - beta, correction = 1 / c; formed in double
  TURL_BOTH void operator()(T& p, T& m, T& v, T g) const {
    m = beta1 * m + rest1 * g;
    v = beta2 * v + rest2 * g * g;
    using std::sqrt;  // for its float version: without this, sqrt may be C's, which computes in double
    p -= lr * (m * correction1 / (sqrt(v * correction2) + epsilon) + decay * p);
  }
};

inline void expect_lists(const OutList& p, std::initializer_list<size_t> sizes) {
  for (size_t size : sizes)
    if (size != p.size()) throw std::runtime_error("expected lists of one length");
}
// The update kernels work in place: each output is the input it came from.
inline void expect_in_place(const OutList& y, const InList& x) {
  for (size_t i = 0; i < y.size(); i++)
    if (y[i].data != x[i].data || y[i].size != x[i].size) throw std::runtime_error("an optimiser step works in place");
}

template <class T>
AdamWRule<T> adamw_rule(double lr, double beta1, double beta2, double epsilon, double decay, int64_t step) {
  return {T(lr), T(beta1), T(1 - beta1), T(beta2), T(1 - beta2), T(epsilon), T(decay), T(1 / (1 - std::pow(beta1, double(step)))),
          T(1 / (1 - std::pow(beta2, double(step))))};
}

}  // namespace turl
