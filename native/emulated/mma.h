// The emulated side of native/cuda/mma.h, where the layouts are explained. Products are exact, and sums are float32 in order of k. How a GPU
// rounds within one instruction is not specified.
#pragma once
#include "emulated/device.h"

namespace turl {

// The address that matrix instructions use: counted from the beginning of the block's shared memory.
inline uint32_t shared_address(const void* p) {
  return uint32_t(static_cast<const char*>(p) - emulated::self->processor->dynamic_shared());
}

void mma_bfloat16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, TURL_HERE);
void load_matrix_4(uint32_t (&r)[4], const void* row, TURL_HERE);
void load_matrix_4_transposed(uint32_t (&r)[4], const void* row, TURL_HERE);
void store_matrix_4_transposed(void* column, const uint32_t (&r)[4], TURL_HERE);

}  // namespace turl
