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
      for (int64_t block = begin; block < end; block++) {
        Philox4 random = rule.block(block);
        for (int64_t i = block * 4; i < std::min(x.size, block * 4 + 4); i++)
          out[i] = rule.keeps(random.word[i % 4]) ? T(A(in[i]) * A(rule.scale)) : T(0.0f);
      }
    });
  });
}

}  // namespace turl
