// A float32 as the sum of two bfloat16, for products on matrix units that keep 16 of its bits.
#pragma once
#include "cuda/device.h"

namespace turl {

// high + low = x within 2^-17 of it.
struct Split {
  bfloat16 *high, *low;
  __device__ static bfloat16 rest(float x) { return bfloat16(x - float(bfloat16(x))); }
};

}  // namespace turl
