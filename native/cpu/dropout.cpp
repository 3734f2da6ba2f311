// Dropout: y = x / (1 - probability) where the element's draw is at least the probability, 0 elsewhere. The draw of element i is
// Philox's word i for (seed, dropout, step, layer), so the same call on dy is the gradient, and no mask is stored.
#include "cpu/parallel.h"
#include "dropout.h"
#include "kernels.h"

namespace turl {

void dropout(Context& context, Out y, In x, double probability, int64_t seed, int64_t step, int64_t layer) {
  with_float(x.dtype, [&]<class T>() {
    using A = acc_t<T>;
    const T* in = x.as<T>();
    T* out = y.as<T>();
    DropoutRule rule(probability, seed, step, layer);
    parallel_for(context, (x.size + 3) / 4, 4096, [&](int64_t begin, int64_t end) {
      constexpr int side_by_side = 64;
      uint32_t words[4][side_by_side], draw[4 * side_by_side];
      for (int64_t block = begin; block < end; block += side_by_side) {
        rule.blocks(words, block);
        for (int j = 0; j < side_by_side; j++)
          for (int k = 0; k < 4; k++) draw[4 * j + k] = words[k][j];
        const T* from = in + block * 4;
        T* to = out + block * 4;
        const int64_t count = std::min(x.size, end * 4) - block * 4;
        for (int64_t i = 0; i < std::min<int64_t>(count, 4 * side_by_side); i++)
          to[i] = rule.keeps(draw[i]) ? T(A(from[i]) * A(rule.scale)) : T(0.0f);
      }
    });
  });
}

}  // namespace turl
