// Group-wise l2 normalisation (§3.2): x [rows, groups * size], each run of `size` elements by itself.
//   y = x / max(|x|, epsilon);   dx = (dy - y (y . dy)) / |x| where |x| > epsilon, dy / epsilon elsewhere.
// The rows may be 1,000,000 prototypes, so each direction makes one pass over memory: backward computes the norms again.
#include "cpu/normalize_group.h"
#include "cpu/parallel.h"
#include "kernels.h"

namespace turl {
namespace {

// f(first, count, inverse, projection) for the groups [begin, end), some at a time, with room for their norms and projections.
template <class A, class F> void for_batches(int64_t begin, int64_t end, F&& f) {
  constexpr int64_t most = 64;
  A inverse[most], projection[most];
  for (int64_t g = begin; g < end; g += most) f(g, std::min(most, end - g), inverse, projection);
}

}  // namespace

void group_normalize_forward(Context& context, Out y, In x, int64_t rows, int64_t groups, int64_t size, double epsilon) {
  with_float(x.dtype, [&]<class T>() {
    const T* in = x.as<T>();
    T* out = y.as<T>();
    int64_t total = rows * groups;
    parallel_for(context, total, std::max<int64_t>(1, 32768 / size), [&](int64_t begin, int64_t end) {
      for_batches<acc_t<T>>(begin, end, [&](int64_t first, int64_t count, auto& inverse, auto&) {
        inverse_norms(inverse, in + first * size, count, size, acc_t<T>(epsilon));
        for (int64_t g = 0; g < count; g++) scale_group(out + (first + g) * size, in + (first + g) * size, inverse[g], size);
      });
    });
  });
}

void group_normalize_backward(Context& context, Out dx, In dy, In x, int64_t rows, int64_t groups, int64_t size,
                              double epsilon) {
  with_float(x.dtype, [&]<class T>() {
    using A = acc_t<T>;
    const T *in = x.as<T>(), *gradient = dy.as<T>();
    T* out = dx.as<T>();
    int64_t total = rows * groups;
    parallel_for(context, total, std::max<int64_t>(1, 32768 / size), [&](int64_t begin, int64_t end) {
      for_batches<A>(begin, end, [&](int64_t first, int64_t count, auto& inverse, auto& projection) {
        const auto group = [=](auto* of) { return [=](int64_t g) { return of + (first + g) * size; }; };
        inverse_norms(inverse, in + first * size, count, size, A(epsilon));
        projections(projection, inverse, count, size, A(epsilon), group(in), group(gradient));
        for (int64_t g = 0; g < count; g++)
          project_group(group(out)(g), group(gradient)(g), group(in)(g), inverse[g], projection[g], size);
      });
    });
  });
}

}  // namespace turl
