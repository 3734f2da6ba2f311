// How fast the processor multiplies and adds, with operands in registers: the ceilings of `turl bench`. No operation uses them.
//   multiply_add_rate: y[i] = x[i] after `steps` times y <- y (1 - 2^-10) + 2^-10, which tends to 1. 2 operations a step and element.
//   matrix_rate: y [tiles, 16, 8] = steps * a [16, 16] b [16, 8], bfloat16 with float32 sums, on matrix units, where one product is two
//     steps of two tiles. Without matrix units it is a plain loop, whose rate says nothing.
#include "cpu/lanes.h"
#include "cpu/matrix_units.h"
#include "cpu/parallel.h"
#include "kernels.h"

namespace turl {
namespace {
// Two multiply-adds start in each cycle and take four or five cycles: at least ten independent chains keep the units busy, and all chains
// fit into the registers.
constexpr int chains = 12;

constexpr int64_t rows = 16, columns = 8, depth = 16;  // of matrix_rate's tiles
constexpr int64_t at_once = 8;                         // such tiles are four tiles of the units: enough to hide a product's latency

template <class Units>
void unit_rate(Context& context, float* y, const bfloat16* a, const bfloat16* b, int64_t tiles, int64_t steps) {
  // Left: two steps side by side, and for an odd number of steps the same with zeros for the second. Right: two tiles side by side.
  bfloat16 twice[2][unit_side][unit_depth] = {}, right[unit_side][unit_side][2];
  for (int64_t k = 0; k < unit_depth; k++)
    for (int64_t i = 0; i < unit_side; i++) {
      twice[0][i][k] = a[i * depth + k % depth];
      twice[1][i][k] = k < depth ? a[i * depth + k] : bfloat16(0.0f);
      right[k / 2][i][k % 2] = b[k % depth * columns + i % columns];
    }
  parallel_for(context, tiles, at_once, [&](int64_t begin, int64_t end) {
    Units unit;
    float sums[2 * unit_side][2 * unit_side];  // of 2 x 4 tiles, half as wide as one of the units
    Units::fence();
    zero_sums(unit);
    unit.template load<4>(twice[0], 64), unit.template load<6>(right, 64);
    for (int64_t step = 0; step < steps; step += 2) {
      if (step + 1 == steps) unit.template load<4>(twice[1], 64);
      unit.template multiply<0, 4, 6>(), unit.template multiply<1, 4, 6>();
      unit.template multiply<2, 4, 6>(), unit.template multiply<3, 4, 6>();
    }
    store_sums(unit, sums[0], 2 * unit_side);
    for (int64_t tile = begin; tile < end; tile++)
      for (int64_t i = 0; i < rows; i++)
        std::copy_n(&sums[(tile - begin) / 4 * unit_side + i][(tile - begin) % 4 * columns], columns, y + (tile * rows + i) * columns);
  });
}
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
  if (matrix_units() != MatrixUnits::none)
    return with_units([&]<class Units>() {
      unit_rate<Units>(context, y.as<float>(), a.as<bfloat16>(), b.as<bfloat16>(), y.size / (rows * columns), steps);
    });
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
