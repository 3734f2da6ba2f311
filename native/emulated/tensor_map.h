// The emulated side of native/cuda/tensor_map.h.
#pragma once
#include "emulated/device.h"

#define __grid_constant__

namespace turl {

struct TensorMap {
  const bfloat16* x;
  int64_t sizes[3];
  int rows;
};
TensorMap tensor_map(const bfloat16* x, const int64_t (&sizes)[3], int rows);
void copy_block(Pack<bfloat16>* to, const TensorMap& map, int i0, int i1, int i2, Mbarrier& barrier, TURL_HERE);

}  // namespace turl
