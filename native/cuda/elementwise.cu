// Element-wise operations, one element a thread; the formulas are in elementwise.h.
#include "cuda/device.h"
#include "cuda/strided.h"
#include "elementwise.h"
#include "kernels.h"

namespace turl {
namespace {

constexpr int threads = 256;
#define TURL_ELEMENT(i, n)                                       \
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;    \
  if (i >= n) return

template <class Op, class T> __global__ void same_size_kernel(T* y, const T* a, const T* b, int64_t n) {
  TURL_ELEMENT(i, n);
  y[i] = T(Op::template forward<float>(float(a[i]), float(b[i])));
}
template <class Op, class T> __global__ void broadcast_kernel(T* y, const T* a, const T* b, Space space, int64_t n) {
  TURL_ELEMENT(i, n);
  int64_t p, q;
  space.offsets(i, p, q);
  y[i] = T(Op::template forward<float>(float(a[p]), float(b[q])));
}
template <class Op, class T> __global__ void unary_forward_kernel(T* y, const T* x, int64_t n) {
  TURL_ELEMENT(i, n);
  y[i] = T(Op::template forward<float>(float(x[i])));
}
template <class Op, class T> __global__ void unary_backward_kernel(T* dx, const T* dy, const T* saved, int64_t n) {
  TURL_ELEMENT(i, n);
  dx[i] = T(Op::template backward<float>(float(dy[i]), float(saved[i])));
}
template <class T> __global__ void affine_kernel(T* y, const T* x, float scale, float shift, int64_t n) {
  TURL_ELEMENT(i, n);
  y[i] = T(scale * float(x[i]) + shift);
}

template <class Op> void same_size(Context& context, Out y, In a, In b) {
  with_float(y.dtype, [&]<class T>() {
    launch(context, same_size_kernel<Op, T>, blocks_for(y.size, threads), threads, 0, y.as<T>(), a.as<T>(), b.as<T>(), y.size);
  });
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
      launch(context, broadcast_kernel<Op, T>, blocks_for(y.size, threads), threads, 0, y.as<T>(), a.as<T>(), b.as<T>(), space,
             y.size);
    });
  });
}

void unary_forward(Context& context, Out y, In x, int64_t op) {
  with_unary(op, [&]<class Op>() {
    with_float(y.dtype, [&]<class T>() {
      launch(context, unary_forward_kernel<Op, T>, blocks_for(y.size, threads), threads, 0, y.as<T>(), x.as<T>(), y.size);
    });
  });
}

void unary_backward(Context& context, Out dx, In dy, In saved, int64_t op) {
  with_unary(op, [&]<class Op>() {
    with_float(dx.dtype, [&]<class T>() {
      launch(context, unary_backward_kernel<Op, T>, blocks_for(dx.size, threads), threads, 0, dx.as<T>(), dy.as<T>(),
             saved.as<T>(), dx.size);
    });
  });
}

// y = scale x + shift
void affine(Context& context, Out y, In x, double scale, double shift) {
  with_float(y.dtype, [&]<class T>() {
    launch(context, affine_kernel<T>, blocks_for(y.size, threads), threads, 0, y.as<T>(), x.as<T>(), scale, shift, y.size);
  });
}

}  // namespace turl
