// The emulated side of native/cuda/warpgroup.h. A product happens as late as it may, when its warp waits for its group: a kernel that reads
// sums before gets the old ones, and one that frees operands before multiplies what overwrote them. Operands are found by the bits of their
// descriptors.
#pragma once
#include "emulated/device.h"

namespace turl::emulated {
void begin_product(float* d, int columns, uint64_t a, bool a_by_side, uint64_t b, bool b_by_side, Site site);
void wait_products(int latest, Site site);
}  // namespace turl::emulated

namespace turl {

template <class D> void warpgroup_fence(D&) { emulated::self->sums_fenced = true; }
void warpgroup_commit();
template <int n> void give_registers() {
  static_assert(n % 8 == 0 && n >= 24 && n <= 256);
  emulated::self->registers = n;
}
template <int n> void take_registers() { give_registers<n>(); }
template <int n, class D> void warpgroup_wait(D&, TURL_HERE) { emulated::wait_products(n, {"warpgroup_wait", file, line}); }
template <bool a_by_side, bool b_by_side, int blocks>
void warpgroup_mma(float (&d)[blocks][4], uint64_t a, uint64_t b, TURL_HERE) {
  static_assert(blocks % 8 == 0 && blocks <= 32, "n is 64, 128, 192 or 256");
  emulated::begin_product(d[0], blocks * 8, a, a_by_side, b, b_by_side, {"warpgroup_mma", file, line});
}

}  // namespace turl
