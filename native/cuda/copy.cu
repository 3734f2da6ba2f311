// fill, copy and cast of whole arrays: each element is read once and written once.
#include "cuda/map.h"
#include "kernels.h"

namespace turl {
namespace {

template <class T> struct Always {
  T value;
  __device__ T operator()() const { return value; }
};

}  // namespace

void fill(Context& context, Out y, double value) {
  with_any(y.dtype, [&]<class T>() { map(context, Always<T>{T(value)}, y.size, y.as<T>()); });
}

void copy(Context& context, Out y, In x) {
  with_any(x.dtype, [&]<class T>() { map(context, Identity{}, y.size, y.as<T>(), x.as<T>()); });
}

void cast(Context& context, Out y, In x) {
  with_any(y.dtype, [&]<class Y>() {
    with_any(x.dtype, [&]<class X>() { map(context, Identity{}, y.size, y.as<Y>(), x.as<X>()); });
  });
}

}  // namespace turl
