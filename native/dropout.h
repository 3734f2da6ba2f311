// Which elements dropout keeps, and what it multiplies them by: the same on every device.
#pragma once
#include "philox.h"

namespace turl {

struct DropoutRule {
  float probability, scale;
  uint64_t seed;
  uint32_t step, layer;
  DropoutRule(double probability, int64_t seed, int64_t step, int64_t layer)
      : probability(float(probability)), scale(float(1 / (1 - probability))), seed(uint64_t(seed)), step(uint32_t(step)),
        layer(uint32_t(layer)) {}
  static constexpr uint32_t purpose = 2;  // `dropout` in src/tensor/philox.ts
  // The draws of elements 4 index to 4 index + 3, and of `count` such blocks from `first` on.
  TURL_BOTH Philox4 block(int64_t index) const { return philox(seed, uint32_t(index), purpose, step, layer); }
  template <int count> void blocks(uint32_t (&words)[4][count], int64_t first) const {
    philox_blocks(words, seed, uint32_t(first), purpose, step, layer);
  }
  TURL_BOTH bool keeps(uint32_t word) const { return unit_interval(word) >= probability; }
};

}  // namespace turl
