// Group-wise l2 normalisation: x [rows, groups * size], each run of `size` elements by itself (cpu/group_normalize.cpp).
//   y = x / max(|x|, epsilon);   dx = (dy - y (y . dy)) / |x| where |x| > epsilon, dy / epsilon elsewhere.
// A warp handles a group, lanes side by side; it reads x (and dy) twice, the second time from the cache.
#include "cuda/normalize_group.h"
#include "kernels.h"

namespace turl {
namespace {

constexpr int warps = 8;  // groups of a block

template <class T>
__global__ void group_normalize_forward_kernel(T* y, const T* x, int64_t total, int size, float epsilon) {
  int64_t group = int64_t(blockIdx.x) * warps + threadIdx.x / 32;
  if (group >= total) return;
  const T* from = x + group * size;
  float inverse = inverse_norm(from, size, epsilon);
  for (int e = threadIdx.x % 32; e < size; e += 32) y[group * size + e] = T(inverse * float(from[e]));
}

template <class T>
__global__ void group_normalize_backward_kernel(T* dx, const T* dy, const T* x, int64_t total, int size, float epsilon) {
  int64_t group = int64_t(blockIdx.x) * warps + threadIdx.x / 32;
  if (group >= total) return;
  project_group(dx + group * size, dy + group * size, x + group * size, inverse_norm(x + group * size, size, epsilon),
                size, epsilon);
}

}  // namespace

void group_normalize_forward(Context& context, Out y, In x, int64_t rows, int64_t groups, int64_t size, double epsilon) {
  with_float(x.dtype, [&]<class T>() {
    launch(context, group_normalize_forward_kernel<T>, blocks_for(rows * groups, warps), warps * 32, 0, y.as<T>(),
           x.as<T>(), rows * groups, size, epsilon);
  });
}

void group_normalize_backward(Context& context, Out dx, In dy, In x, int64_t rows, int64_t groups, int64_t size,
                              double epsilon) {
  with_float(x.dtype, [&]<class T>() {
    launch(context, group_normalize_backward_kernel<T>, blocks_for(rows * groups, warps), warps * 32, 0, dx.as<T>(),
           dy.as<T>(), x.as<T>(), rows * groups, size, epsilon);
  });
}

}  // namespace turl
