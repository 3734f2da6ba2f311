// The formulas of the element-wise operations, written once for every device, for numbers and for the CPU's vectors of numbers (whose
// functions are in cpu/vector_math.h, to be included before). A new operation is one line here and its name in
// src/autograd/ops/unary.ts or binary.ts, in the same order.
//   unary:  name, value of x, gradient from dy and either x or y, whichever unary.ts says is saved
//   binary: name, value of a and b
#pragma once
#include <cmath>
#include "types.h"

#define TURL_UNARY(op)                                                           \
  op(neg, -x, -dy)                                                               \
  op(exp, exp(x), dy * y)                                                        \
  op(log, log(x), dy / x)                                                        \
  op(sqrt, sqrt(x), 0.5f * dy / y)                                               \
  op(square, x * x, 2.0f * x * dy)                                               \
  op(abs, x < 0.0f ? -x : x, x > 0.0f ? dy : (x < 0.0f ? -dy : 0.0f))            \
  op(sigmoid, sigmoid_of(x), dy * y * (1.0f - y))                                \
  op(softplus, softplus_of(x), dy * sigmoid_of(x))                               \
  op(relu, x < 0.0f ? 0.0f : x, y > 0.0f ? dy : 0.0f)                            \
  op(tanh, tanh(x), dy * (1.0f - y * y))

#define TURL_BINARY(op)                                                          \
  op(add, a + b)                                                                 \
  op(sub, a - b)                                                                 \
  op(mul, a * b)                                                                 \
  op(div, a / b)                                                                 \
  op(maximum, b > a || b != b ? b : a)                                           \
  op(at_least, a >= b ? 1.0f : 0.0f)

namespace turl {

using std::exp, std::log, std::log1p, std::sqrt, std::tanh;

// 1 / (1 + e^-x), without overflow on either side.
template <class A> TURL_BOTH A sigmoid_of(A x) {
  const A e = exp(x < 0.0f ? x : -x);
  return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}
// log(1 + e^x) = max(x, 0) + log(1 + e^-|x|).
template <class A> TURL_BOTH A softplus_of(A x) {
  return (x < 0.0f ? 0.0f : x) + log1p(exp(x < 0.0f ? x : -x));
}

namespace unary {
#define TURL_DEFINE(name, value, gradient)                                       \
  struct name {                                                                  \
    template <class A> static TURL_BOTH A forward(A x) {                         \
      using turl::exp, turl::log, turl::sqrt, turl::tanh; /* not these structs */ \
      return value;                                                              \
    }                                                                            \
    template <class A> static TURL_BOTH A backward(A dy, A saved) {              \
      [[maybe_unused]] A x = saved, y = saved;                                   \
      return gradient;                                                           \
    }                                                                            \
  };
TURL_UNARY(TURL_DEFINE)
#undef TURL_DEFINE
}  // namespace unary

namespace binary {
#define TURL_DEFINE(name, value)                                                 \
  struct name {                                                                  \
    template <class A> static TURL_BOTH A forward(A a, A b) { return value; }    \
  };
TURL_BINARY(TURL_DEFINE)
#undef TURL_DEFINE
}  // namespace binary

// Calls f.template operator()<unary::NAME>() for the operation number `op` of the list.
template <class F> void with_unary(int64_t op, F&& f) {
  int64_t place = 0;
#define TURL_CHOOSE(name, value, gradient) \
  if (op == place++) return f.template operator()<unary::name>();
  TURL_UNARY(TURL_CHOOSE)
#undef TURL_CHOOSE
  throw std::runtime_error("no unary operation " + std::to_string(op));
}
template <class F> void with_binary(int64_t op, F&& f) {
  int64_t place = 0;
#define TURL_CHOOSE(name, value) \
  if (op == place++) return f.template operator()<binary::name>();
  TURL_BINARY(TURL_CHOOSE)
#undef TURL_CHOOSE
  throw std::runtime_error("no binary operation " + std::to_string(op));
}

}  // namespace turl
