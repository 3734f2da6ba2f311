// Group-wise l2 normalisation (METHOD.md section 3): x [rows, groups * size], each run of `size` elements by itself.
//   y = x / max(|x|, epsilon);   dx = (dy - y (y . dy)) / |x| where |x| > epsilon, dy / epsilon elsewhere.
// The rows may be 1,000,000 prototypes: one pass over memory, the norms are recomputed in backward rather than stored.
#include "cpu/normalize_group.h"
#include "cpu/parallel.h"
#include "kernels.h"

namespace turl {

void group_normalize_forward(Context& context, Out y, In x, int64_t rows, int64_t groups, int64_t size, double epsilon) {
  with_float(x.dtype, [&]<class T>() {
    const T* in = x.as<T>();
    T* out = y.as<T>();
    int64_t total = rows * groups;
    parallel_for(context, total, std::max<int64_t>(1, 32768 / size), [&](int64_t begin, int64_t end) {
      for (int64_t g = begin; g < end; g++)
        scale_group(out + g * size, in + g * size, inverse_norm(in + g * size, size, acc_t<T>(epsilon)), size);
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
      for (int64_t g = begin; g < end; g++) {
        const T *xg = in + g * size, *dg = gradient + g * size;
        A inverse = inverse_norm(xg, size, A(epsilon));
        A along = inverse * A(epsilon) < 1 ? inverse * inverse * dot(xg, dg, size) : A(0);
        project_group(out + g * size, dg, xg, inverse, along, size);
      }
    });
  });
}

}  // namespace turl
