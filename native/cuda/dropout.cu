// Dropout: y = x / (1 - probability) where the element's draw is at least the probability, 0 elsewhere; four elements, that is
// one block of Philox, a thread.
#include "cuda/device.h"
#include "dropout.h"
#include "kernels.h"

namespace turl {
namespace {

template <class T> __global__ void dropout_kernel(T* y, const T* x, DropoutRule rule, int64_t n, bool packed) {
  begin_kernel();
  int64_t block = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (block * 4 >= n) return;
  Philox4 random = rule.block(block);
  using Four = Group<T, 4>;
  if (packed && block * 4 + 4 <= n) {
    Four four = reinterpret_cast<const Four*>(x)[block];
#pragma unroll
    for (int k = 0; k < 4; k++) four.v[k] = rule.keeps(random.word[k]) ? T(float(four.v[k]) * rule.scale) : T(0.0f);
    reinterpret_cast<Four*>(y)[block] = four;
    return;
  }
  for (int k = 0; k < 4 && block * 4 + k < n; k++)
    y[block * 4 + k] = rule.keeps(random.word[k]) ? T(float(x[block * 4 + k]) * rule.scale) : T(0.0f);
}

}  // namespace

void dropout(Context& context, Out y, In x, double probability, int64_t seed, int64_t step, int64_t layer) {
  with_float(x.dtype, [&]<class T>() {
    DropoutRule rule(probability, seed, step, layer);
    launch(context, dropout_kernel<T>, blocks_for(x.size, 1024), 256, 0, y.as<T>(), x.as<T>(), rule, x.size,
           packs<T>(0, y.as<T>(), x.as<T>()));
  });
}

}  // namespace turl
