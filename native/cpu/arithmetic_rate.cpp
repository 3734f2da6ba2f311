// How fast the processor multiplies and adds, with operands in registers: the ceilings of `turl bench`. No operation uses them.
//   multiply_add_rate: y[i] = x[i] after `steps` times y <- y (1 - 2^-10) + 2^-10, which tends to 1. 2 operations a step and element.
//   matrix_rate: y [tiles, 16, 8] = steps * a [16, 16] b [16, 8], in bfloat16 with float32 sums. On the CPU a plain loop: no matrix
//     instructions are used here, so that this is no ceiling of it.
#include "cpu/lanes.h"
#include "cpu/parallel.h"
#include "kernels.h"

namespace turl {
namespace {
// Two multiply-adds start in a cycle and take four or five: ten chains at least, and no more than the registers hold.
constexpr int chains = 12;
}  // namespace

void multiply_add_rate(Context& context, Out y, In x, int64_t steps) {
  const float* in = x.as<float>();
  float* out = y.as<float>();
  constexpr int64_t block = chains * lanes;
  const vfloat factor = splat(1 - 0x1p-10f), term = splat(0x1p-10f);
  parallel_for(context, x.size, 16 * block, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin; first < end; first += block) {
      const int64_t count = std::min(block, end - first);
      float values[block] = {};
      std::copy(in + first, in + first + count, values);
      vfloat chain[chains];
      for (int c = 0; c < chains; c++) chain[c] = load(values + c * lanes);
      for (int64_t step = 0; step < steps; step++)
        for (int c = 0; c < chains; c++) chain[c] = fma(chain[c], factor, term);
      for (int c = 0; c < chains; c++) store(values + c * lanes, chain[c]);
      std::copy(values, values + count, out + first);
    }
  });
}

void matrix_rate(Context& context, Out y, In a, In b, int64_t steps) {
  constexpr int64_t rows = 16, columns = 8, depth = 16;
  const bfloat16 *left = a.as<bfloat16>(), *right = b.as<bfloat16>();
  float* out = y.as<float>();
  parallel_for(context, y.size / (rows * columns), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * rows * columns; i < end * rows * columns; i++) {
      const int64_t row = i / columns % rows, column = i % columns;
      float total = 0;
      for (int64_t step = 0; step < steps; step++)
        for (int64_t k = 0; k < depth; k++) total += float(left[row * depth + k]) * float(right[k * columns + column]);
      out[i] = total;
    }
  });
}

}  // namespace turl
