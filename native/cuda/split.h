// A float32 as the sum of two bfloat16, which keep 16 bits of it: for products on matrix units that need more than the 8 bits of one.
#pragma once
#include "cuda/device.h"

namespace turl {

// Two arrays, where high + low = x within 2^-17 of it; and how `low` is computed.
struct Split {
  bfloat16 *high, *low;
  __device__ static bfloat16 rest(float x) { return bfloat16(x - float(bfloat16(x))); }
};

}  // namespace turl
