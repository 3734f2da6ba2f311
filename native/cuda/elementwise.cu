// Element-wise operations; the formulas are in elementwise.h.
#include "cuda/map.h"
#include "cuda/strided.h"
#include "elementwise.h"
#include "kernels.h"

namespace turl {
namespace {

template <class Op> struct Forward {
  __device__ float operator()(float x) const { return Op::template forward<float>(x); }
  __device__ float operator()(float a, float b) const { return Op::template forward<float>(a, b); }
};
template <class Op> struct Backward {
  __device__ float operator()(float dy, float saved) const { return Op::template backward<float>(dy, saved); }
};
struct Affine {
  float scale, shift;
  __device__ float operator()(float x) const { return scale * x + shift; }
};

// One element a thread.
template <class Op, class T> __global__ void broadcast_kernel(T* y, const T* a, const T* b, Space space, int64_t n) {
  begin_kernel();
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int64_t p, q;
  space.offsets(i, p, q);
  y[i] = T(Op::template forward<float>(float(a[p]), float(b[q])));
}
template <class Op> void same_size(Context& context, Out y, In a, In b) {
  with_float(y.dtype, [&]<class T>() { map(context, Forward<Op>{}, y.size, y.as<T>(), a.as<T>(), b.as<T>()); });
}

}  // namespace

// y = a + b, all of one size; y may be a.
void add(Context& context, Out y, In a, In b) { same_size<binary::add>(context, y, a, b); }

// y = op(a, b) over the space `shape`, where a and b are read at strides. An empty shape means that all three have one size.
void binary_forward(Context& context, Out y, In a, In b, Ints shape, Ints a_strides, Ints b_strides, int64_t op) {
  with_binary(op, [&]<class Op>() {
    if (shape.size == 0) return same_size<Op>(context, y, a, b);
    Space space(shape, a_strides, b_strides);
    with_float(y.dtype, [&]<class T>() {
      launch(context, broadcast_kernel<Op, T>, blocks_for(y.size, 256), 256, 0, y.as<T>(), a.as<T>(), b.as<T>(), space, y.size);
    });
  });
}

void unary_forward(Context& context, Out y, In x, int64_t op) {
  with_unary(op, [&]<class Op>() {
    with_float(y.dtype, [&]<class T>() { map(context, Forward<Op>{}, y.size, y.as<T>(), x.as<T>()); });
  });
}

void unary_backward(Context& context, Out dx, In dy, In saved, int64_t op) {
  with_unary(op, [&]<class Op>() {
    with_float(dx.dtype, [&]<class T>() { map(context, Backward<Op>{}, dx.size, dx.as<T>(), dy.as<T>(), saved.as<T>()); });
  });
}

// y = scale x + shift
void affine(Context& context, Out y, In x, double scale, double shift) {
  with_float(y.dtype, [&]<class T>() {
    map(context, Affine{float(scale), float(shift)}, y.size, y.as<T>(), x.as<T>());
  });
}

}  // namespace turl
