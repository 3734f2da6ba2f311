// fill, copy and cast of whole arrays.
#include "cpu/parallel.h"
#include "kernels.h"

namespace turl {
namespace {
constexpr int64_t grain = 1 << 16;
}  // namespace

void fill(Context& context, Out y, double value) {
  with_any(y.dtype, [&]<class T>() {
    T* out = y.as<T>();
    parallel_for(context, y.size, grain, [&](int64_t begin, int64_t end) { std::fill(out + begin, out + end, T(value)); });
  });
}

void copy(Context& context, Out y, In x) {
  int64_t bytes = x.size * int64_t(bytes_of(x.dtype));
  parallel_for(context, bytes, grain * 4, [&](int64_t begin, int64_t end) {
    memcpy(static_cast<char*>(y.data) + begin, static_cast<const char*>(x.data) + begin, size_t(end - begin));
  });
}

void cast(Context& context, Out y, In x) {
  with_any(y.dtype, [&]<class Y>() {
    with_any(x.dtype, [&]<class X>() {
      Y* out = y.as<Y>();
      const X* in = x.as<X>();
      parallel_for(context, y.size, grain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) out[i] = Y(in[i]);
      });
    });
  });
}

}  // namespace turl
