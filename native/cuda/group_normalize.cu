// Group-wise l2 normalisation: x [rows, groups * size], each run of `size` elements by itself (cpu/group_normalize.cpp).
//   y = x / max(|x|, epsilon);   dx = (dy - y (y . dy)) / |x| where |x| > epsilon, dy / epsilon elsewhere.
#include "cuda/normalize_group.h"
#include "kernels.h"

namespace turl {
namespace {

template <class T, int width>
__global__ void group_normalize_forward_kernel(T* y, const T* x, int64_t total, Team<width> team, float epsilon) {
  begin_kernel();
  const int64_t at = team.begin(total);
  const float inverse = team.inverse_norm(x + at, epsilon);
  team.each([&](int e) {
    auto pack = *reinterpret_cast<const Group<T, width>*>(x + at + e);
#pragma unroll
    for (int n = 0; n < width; n++) pack.v[n] = T(inverse * float(pack.v[n]));
    *reinterpret_cast<Group<T, width>*>(y + at + e) = pack;
  });
}

template <class T, int width>
__global__ void group_normalize_backward_kernel(T* dx, const T* dy, const T* x, int64_t total, Team<width> team, float epsilon) {
  begin_kernel();
  const int64_t at = team.begin(total);
  team.project(dx + at, dy + at, x + at, team.inverse_norm(x + at, epsilon), epsilon);
}

}  // namespace

void group_normalize_forward(Context& context, Out y, In x, int64_t rows, int64_t groups, int64_t size, double epsilon) {
  with_float(x.dtype, [&]<class T>() {
    const auto run = [&]<int width>(Team<width> team) {
      launch(context, group_normalize_forward_kernel<T, width>, team.blocks(rows * groups), team_threads, 0, y.as<T>(), x.as<T>(),
             rows * groups, team, epsilon);
    };
    with_team(size, run, y.as<T>(), x.as<T>());
  });
}

void group_normalize_backward(Context& context, Out dx, In dy, In x, int64_t rows, int64_t groups, int64_t size,
                              double epsilon) {
  with_float(x.dtype, [&]<class T>() {
    const auto run = [&]<int width>(Team<width> team) {
      launch(context, group_normalize_backward_kernel<T, width>, team.blocks(rows * groups), team_threads, 0, dx.as<T>(), dy.as<T>(),
             x.as<T>(), rows * groups, team, epsilon);
    };
    with_team(size, run, dx.as<T>(), dy.as<T>(), x.as<T>());
  });
}

}  // namespace turl
