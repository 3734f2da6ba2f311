// Asynchronous copies from global to shared memory: they proceed while the kernel computes.
//
// Every thread by itself (cp.async, sm_80): 16 bytes at a time, collected in groups.
//   copy_async(tile + i, x + i, inside);   16 bytes, both addresses aligned so; zeros where `inside` is false (x is not read then)
//   copy_async_cached(...);                the same, through the L1 cache, for data that is soon read again
//   commit_copies();                       closes this thread's group
//   wait_copies<n>();                      waits until at most the n latest groups are still under way; then __syncthreads()
//
// In bulk (cp.async.bulk, sm_90): one thread starts the copy of a whole block, and a barrier in shared memory (mbarrier) completes a phase
// when it has arrived.
//   TURL_SHARED(Mbarrier, full);           eight bytes; one thread calls init_mbarrier(full, arrivals), then fence_mbarrier_init(),
//                                          then all call __syncthreads()
//   expect_bytes(full, bytes);             arrives, and adds the bytes that must arrive in this phase
//   copy_bulk(tile, x, bytes, full);       a multiple of 16 bytes, addresses aligned so
//   arrive(full);                          arrives without bytes
//   wait_mbarrier(full, phase);            waits until the phase of this parity (0, 1, 0, ...) is complete
//   fence_async();                         by the thread that stored to shared memory what wgmma or a bulk copy will read: after the
//                                          stores, before the barrier
#pragma once
#include "cuda/device.h"

namespace turl {
struct alignas(8) Mbarrier {
  uint64_t state;
};
}  // namespace turl

#ifdef TURL_EMULATED
#include "emulated/async.h"
#else
#include "cuda/mma.h"

namespace turl {

__device__ inline void copy_async(void* shared, const void* global, bool inside = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(inside ? 16 : 0)
               : "memory");
}
__device__ inline void copy_async_cached(void* shared, const void* global, bool inside = true) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(inside ? 16 : 0)
               : "memory");
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int n> __device__ inline void wait_copies() { asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory"); }

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
__device__ inline void init_mbarrier(Mbarrier& barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(arrivals) : "memory");
}
__device__ inline void fence_mbarrier_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ inline void fence_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
__device__ inline void arrive(Mbarrier& barrier) {
  asm volatile("{ .reg .b64 state; mbarrier.arrive.shared::cta.b64 state, [%0]; }" ::"r"(shared_address(&barrier)) : "memory");
}
__device__ inline void expect_bytes(Mbarrier& barrier, int bytes) {
  asm volatile("{ .reg .b64 state; mbarrier.arrive.expect_tx.shared::cta.b64 state, [%0], %1; }" ::"r"(shared_address(&barrier)),
               "r"(bytes)
               : "memory");
}
__device__ inline void wait_mbarrier(Mbarrier& barrier, int phase) {
  asm volatile(
      "{ .reg .pred done;\n"
      "again_%=: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again_%=; }" ::"r"(shared_address(&barrier)),
      "r"(phase)
      : "memory");
}
__device__ inline void copy_bulk(void* shared, const void* global, int bytes, Mbarrier& barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_address(shared)),
               "l"(global), "r"(bytes), "r"(shared_address(&barrier))
               : "memory");
}
#endif

}  // namespace turl
#endif
