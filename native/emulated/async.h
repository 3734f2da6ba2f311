// The emulated side of native/cuda/async.h. A copy happens as late as it may: when its thread waits for its group, or when a thread waits for
// its mbarrier. So a kernel that reads too early gets NaN, or the tile before. For the race check it may write from its beginning on.
#pragma once
#include "emulated/device.h"

namespace turl::emulated {
void check_shared(const void* p, size_t bytes, Site site);
void wait_groups(int latest);
}  // namespace turl::emulated

namespace turl {

void copy_async(void* shared, const void* global, bool inside = true, TURL_HERE);
inline void copy_async_cached(void* shared, const void* global, bool inside = true, TURL_HERE) {
  copy_async(shared, global, inside, file, line);
}
void commit_copies();
template <int n> void wait_copies() { emulated::wait_groups(n); }

void init_mbarrier(Mbarrier& barrier, int arrivals, TURL_HERE);
void fence_mbarrier_init();
void fence_async();
void arrive(Mbarrier& barrier, TURL_HERE);
void expect_bytes(Mbarrier& barrier, int bytes, TURL_HERE);
void wait_mbarrier(Mbarrier& barrier, int phase, TURL_HERE);
void copy_bulk(void* shared, const void* global, int bytes, Mbarrier& barrier, TURL_HERE);

}  // namespace turl
