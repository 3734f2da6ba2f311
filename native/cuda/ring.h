// A ring of places in shared memory: some threads of a block fill them in turn, others read them and free them. Each place has two
// barriers, full and empty.
#pragma once
#include "cuda/warpgroup.h"

#ifdef TURL_WARPGROUPS
namespace turl {

struct Ring {
  Pack<bfloat16>* first;
  Mbarrier *full, *empty;
  int count, packs;       // number of places, and packs of a place
  int at = 0, phase = 0;  // the place whose turn it is, and the parity of this round

  __device__ Pack<bfloat16>* place() const { return first + at * packs; }
  __device__ void init(int fillers, int users) const {
    for (int i = 0; i < count; i++) init_mbarrier(full[i], fillers), init_mbarrier(empty[i], users);
  }
  __device__ void wait_full() const { wait_mbarrier(full[at], phase); }
  __device__ void wait_empty() const { wait_mbarrier(empty[at], phase ^ 1); }
  __device__ void next() {
    if (++at == count) at = 0, phase ^= 1;
  }
};

}  // namespace turl
#endif
