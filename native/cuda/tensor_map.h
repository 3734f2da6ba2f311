// Copies of blocks of a tensor into shared memory by the copy engine (the Tensor Memory Accelerator of sm_90): one thread asks for a block;
// the engine computes where its rows are, writes zeros beyond the tensor, and permutes the packs as products of a warpgroup want them
// (warpgroup.h).
//
//   const TensorMap map = tensor_map(x, {n0, n1, n2}, 1);    on the host: x [n2, n1, n0] of bfloat16, n0 a multiple of 8
//   kernel(..., const __grid_constant__ TensorMap map)       by value
//   copy_block(to, map, i0, i1, i2, full);                   by one thread: 64 elements of x along n0 from i0 on, by 64 along n1 (or
//                                                            n2, if the map was made with 2); `full` must expect block_bytes
//
//   image_map(x, {channels, width, height, batch}, columns, lines)    for x [batch, height, width, channels]
//   copy_lines(to, map, channel, column, line, image, full)           64 channels from this one on of `lines` times `columns` pixels of
//                                                                     an image, a row of 128 bytes each; outside of it zeros
#pragma once
#include "cuda/warpgroup.h"

namespace turl {
constexpr int block_bytes = block_packs * 16;
}

#ifdef TURL_EMULATED
#include "emulated/tensor_map.h"
#else
#include <cuda.h>

namespace turl {

using TensorMap = CUtensorMap;

// A map of x whose copies are boxes of these sizes. The first dimension is the innermost.
template <int rank> TensorMap map_of_boxes(const bfloat16* x, const int64_t (&sizes)[rank], const uint32_t (&box)[rank]) {
  static const auto encode = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result;
    check_cuda(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result), "tensor map");
    if (!found) throw std::runtime_error("the NVIDIA driver is too old for tensor maps: CUDA 12.0 is needed");
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(found);
  }();
  cuuint64_t size[rank], stride[rank];  // strides in bytes
  cuuint32_t step[rank];
  for (int i = 0; i < rank; i++) size[i] = cuuint64_t(sizes[i]), step[i] = 1, stride[i] = (i == 0 ? 2 : stride[i - 1]) * size[i];
  TensorMap map;
  const CUresult error = encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, rank, const_cast<bfloat16*>(x), size, stride, box, step,
                                CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (error != CUDA_SUCCESS) throw std::runtime_error("tensor map: the driver's error " + std::to_string(int(error)));
  return map;
}
inline TensorMap tensor_map(const bfloat16* x, const int64_t (&sizes)[3], int rows) {
  return map_of_boxes(x, sizes, {64, rows == 1 ? 64u : 1u, rows == 2 ? 64u : 1u});
}
inline TensorMap image_map(const bfloat16* x, const int64_t (&sizes)[4], int columns, int lines) {
  return map_of_boxes(x, sizes, {64, uint32_t(columns), uint32_t(lines), 1});
}

__device__ inline void copy_block(Pack<bfloat16>* to, const TensorMap& map, int i0, int i1, int i2, Mbarrier& barrier) {
#ifdef TURL_WARPGROUPS
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];" ::"r"(
          shared_address(to)),
      "l"(&map), "r"(i0), "r"(i1), "r"(i2), "r"(shared_address(&barrier))
      : "memory");
#endif
}

__device__ inline void copy_lines(Pack<bfloat16>* to, const TensorMap& map, int channel, int column, int first_line, int image, Mbarrier& barrier) {
#ifdef TURL_WARPGROUPS
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(
          shared_address(to)),
      "l"(&map), "r"(channel), "r"(column), "r"(first_line), "r"(image), "r"(shared_address(&barrier))
      : "memory");
#endif
}

}  // namespace turl
#endif
