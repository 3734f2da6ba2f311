// The emulated side of native/cuda/tensor_map.h.
#pragma once
#include "emulated/device.h"

#define __grid_constant__

namespace turl {

struct TensorMap {
  const bfloat16* x;
  int64_t sizes[4];
  int box[4];  // elements of a copy; the first dimension is the innermost
};
TensorMap tensor_map(const bfloat16* x, const int64_t (&sizes)[3], int rows);
TensorMap image_map(const bfloat16* x, const int64_t (&sizes)[4], int columns, int lines);
void copy_block(Pack<bfloat16>* to, const TensorMap& map, int i0, int i1, int i2, Mbarrier& barrier, TURL_HERE);
void copy_lines(Pack<bfloat16>* to, const TensorMap& map, int channel, int column, int first_line, int image, Mbarrier& barrier, TURL_HERE);

}  // namespace turl
