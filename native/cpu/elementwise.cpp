// Element-wise operations; the formulas are in elementwise.h.
#include "elementwise.h"
#include "cpu/parallel.h"
#include "cpu/strided.h"
#include "kernels.h"

namespace turl {
namespace {
constexpr int64_t grain = 1 << 15;

// y = op(a, b), all of one size.
template <class Op> void same_size(Context& context, Out y, In a, In b) {
  with_float(y.dtype, [&]<class T>() {
    using A = acc_t<T>;
    T* out = y.as<T>();
    const T *p = a.as<T>(), *q = b.as<T>();
    parallel_for(context, y.size, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) out[i] = T(Op::template forward<A>(A(p[i]), A(q[i])));
    });
  });
}
}  // namespace

// y = a + b, all of one size; y may be a.
void add(Context& context, Out y, In a, In b) { same_size<binary::add>(context, y, a, b); }

// y = op(a, b) over the space `shape`, where a and b are read at strides; the last ones are 0 or 1. An empty shape means that
// all three have one size.
void binary_forward(Context& context, Out y, In a, In b, Ints shape, Ints a_strides, Ints b_strides, int64_t op) {
  if (shape.size == 0) return with_binary(op, [&]<class Op>() { same_size<Op>(context, y, a, b); });
  with_float(y.dtype, [&]<class T>() {
    using A = acc_t<T>;
    T* out = y.as<T>();
    const T *p = a.as<T>(), *q = b.as<T>();
    bool da = a_strides[a_strides.size - 1] != 0, db = b_strides[b_strides.size - 1] != 0;
    with_binary(op, [&]<class Op>() {
      auto run = [&]<int sa, int sb>(int64_t position, int64_t i, int64_t j, int64_t count) {
        T* o = out + position;
        const T *pi = p + i, *qj = q + j;
        for (int64_t k = 0; k < count; k++) o[k] = T(Op::template forward<A>(A(pi[k * sa]), A(qj[k * sb])));
      };
      parallel_for(context, y.size, grain, [&](int64_t begin, int64_t end) {
        for_runs(shape, a_strides, b_strides, begin, end, [&](int64_t position, int64_t i, int64_t j, int64_t count) {
          if (da && db) run.template operator()<1, 1>(position, i, j, count);
          else if (da) run.template operator()<1, 0>(position, i, j, count);
          else if (db) run.template operator()<0, 1>(position, i, j, count);
          else run.template operator()<0, 0>(position, i, j, count);
        });
      });
    });
  });
}

void unary_forward(Context& context, Out y, In x, int64_t op) {
  with_float(y.dtype, [&]<class T>() {
    using A = acc_t<T>;
    T* out = y.as<T>();
    const T* in = x.as<T>();
    with_unary(op, [&]<class Op>() {
      parallel_for(context, y.size, grain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) out[i] = T(Op::template forward<A>(A(in[i])));
      });
    });
  });
}

void unary_backward(Context& context, Out dx, In dy, In saved, int64_t op) {
  with_float(dx.dtype, [&]<class T>() {
    using A = acc_t<T>;
    T* out = dx.as<T>();
    const T *g = dy.as<T>(), *s = saved.as<T>();
    with_unary(op, [&]<class Op>() {
      parallel_for(context, dx.size, grain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) out[i] = T(Op::template backward<A>(A(g[i]), A(s[i])));
      });
    });
  });
}

// y = scale x + shift
void affine(Context& context, Out y, In x, double scale, double shift) {
  with_float(y.dtype, [&]<class T>() {
    using A = acc_t<T>;
    T* out = y.as<T>();
    const T* in = x.as<T>();
    A s = A(scale), t = A(shift);
    parallel_for(context, y.size, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) out[i] = T(s * A(in[i]) + t);
    });
  });
}

}  // namespace turl
