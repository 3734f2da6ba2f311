// Element-wise operations; the formulas are in elementwise.h.
#include "cpu/lanes.h"
#include "cpu/parallel.h"
#include "cpu/strided.h"
#include "elementwise.h"
#include "kernels.h"

namespace turl {
namespace {
constexpr int64_t grain = 1 << 15;

// y[i] = f(in[i]...) for all i < size, by vectors.
template <class T, class F, class... Inputs> void map_of(Context& context, T* y, int64_t size, const F& f, const Inputs*... in) {
  parallel_for(context, size, grain, [&](int64_t begin, int64_t end) {
    for_lanes<acc_t<T>>(begin, end, [&](int64_t i, int n) { store_lanes(y + i, f(load_lanes(in + i, n)...), n); });
  });
}
template <class F, class... Inputs> void map(Context& context, Out y, const F& f, Inputs... in) {
  with_float(y.dtype, [&]<class T>() { map_of(context, y.as<T>(), y.size, f, in.template as<T>()...); });
}
template <class Op> void same_size(Context& context, Out y, In a, In b) {
  map(context, y, [](auto p, auto q) { return Op::forward(p, q); }, a, b);
}
}  // namespace

// y = a + b, all of one size; y may be a.
void add(Context& context, Out y, In a, In b) { same_size<binary::add>(context, y, a, b); }

// y = op(a, b) over the space `shape`, where a and b are read at strides, of which the last is 0 or 1. An empty shape means that y, a and b
// have the same size.
void binary_forward(Context& context, Out y, In a, In b, Ints shape, Ints a_strides, Ints b_strides, int64_t op) {
  if (shape.size == 0) return with_binary(op, [&]<class Op>() { same_size<Op>(context, y, a, b); });
  with_float(y.dtype, [&]<class T>() {
    using A = acc_t<T>;
    using L = Lanes<A>;
    T* out = y.as<T>();
    const T *p = a.as<T>(), *q = b.as<T>();
    bool da = a_strides[a_strides.size - 1] != 0, db = b_strides[b_strides.size - 1] != 0;
    with_binary(op, [&]<class Op>() {
      auto run = [&]<bool sa, bool sb>(int64_t position, int64_t i, int64_t j, int64_t count) {
        const auto first_a = L::splat(A(p[i])), first_b = L::splat(A(q[j]));
        for_lanes<A>(0, count, [&](int64_t k, int n) {
          store_lanes(out + position + k, Op::forward(sa ? load_lanes(p + i + k, n) : first_a, sb ? load_lanes(q + j + k, n) : first_b), n);
        });
      };
      parallel_for(context, y.size, grain, [&](int64_t begin, int64_t end) {
        for_runs(shape, a_strides, b_strides, begin, end, [&](int64_t position, int64_t i, int64_t j, int64_t count) {
          if (da && db) run.template operator()<true, true>(position, i, j, count);
          else if (da) run.template operator()<true, false>(position, i, j, count);
          else if (db) run.template operator()<false, true>(position, i, j, count);
          else run.template operator()<false, false>(position, i, j, count);
        });
      });
    });
  });
}

void unary_forward(Context& context, Out y, In x, int64_t op) {
  with_unary(op, [&]<class Op>() { map(context, y, [](auto v) { return Op::forward(v); }, x); });
}

void unary_backward(Context& context, Out dx, In dy, In saved, int64_t op) {
  with_unary(op, [&]<class Op>() { map(context, dx, [](auto g, auto s) { return Op::backward(g, s); }, dy, saved); });
}

// y = scale x + shift
void affine(Context& context, Out y, In x, double scale, double shift) {
  with_float(y.dtype, [&]<class T>() {
    using A = acc_t<T>;
    map_of(context, y.as<T>(), y.size, [s = A(scale), t = A(shift)](auto v) { return s * v + t; }, x.as<T>());
  });
}

}  // namespace turl
