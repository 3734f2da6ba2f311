// The emulated side of native/cuda/device.h: the words of CUDA that kernels may use, implemented with the fibers of machine.h.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <tuple>
#include "emulated/machine.h"
#include "types.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define threadIdx (turl::emulated::self->index)
#define blockIdx (turl::emulated::self->processor->block_index)
#define blockDim (turl::emulated::self->processor->launch->block)
#define gridDim (turl::emulated::self->processor->launch->grid)

// The address of a static variable is the key by which the threads of a block find the same shared variable; each instance of a template has
// its own.
#define TURL_SHARED(type, name, ...)                                                              \
  static const char name##_key = 0;                                                               \
  using name##_type = turl::emulated::Same<type> __VA_ARGS__;                                     \
  name##_type& name = *static_cast<name##_type*>(                                                 \
      turl::emulated::self->processor->static_shared(&name##_key, sizeof(name##_type), alignof(name##_type)))

namespace turl::emulated {

template <class T> using Same = T;

// Gives every lane of the mask the result combine(value_of, lane), where value_of(other) is another lane's value.
template <class T, class F> T exchange(uint32_t mask, T value, F combine, Site site) {
  struct Argument {
    T value, result;
    F* combine;
  } mine{value, value, &combine};
  self->processor->collective(
      mask, &mine,
      [](void* const* arguments, uint32_t lanes) {
        for (int lane = 0; lane < warp_size; lane++)
          if (lanes >> lane & 1) {
            auto& a = *static_cast<Argument*>(arguments[lane]);
            a.result = (*a.combine)([&](int from) { return static_cast<const Argument*>(arguments[from])->value; }, lane);
          }
      },
      false, site);
  return mine.result;
}

// Gives every lane the value of lane from(lane), or its own if that lane is outside of its segment of `width` lanes.
template <class T, class F> T shuffle(uint32_t mask, T value, int width, F from, Site site) {
  return exchange(mask, value, [&](auto value_of, int lane) {
    int source = from(lane);
    if (source / width != lane / width || source < 0) return value_of(lane);
    if (!(mask >> source & 1)) self->processor->fail("shuffles from a lane outside the mask");
    return value_of(source);
  }, site);
}

}  // namespace turl::emulated

// Barriers.
inline void __syncthreads(TURL_HERE) { turl::emulated::self->processor->barrier({"__syncthreads", file, line}); }
inline void __syncwarp(uint32_t mask = 0xffffffffu, TURL_HERE) {
  turl::emulated::self->processor->collective(mask, nullptr, nullptr, true, {"__syncwarp", file, line});
}

// Shuffles and votes.
template <class T> T __shfl_sync(uint32_t mask, T value, int source, int width = 32, TURL_HERE) {
  return turl::emulated::shuffle(mask, value, width, [=](int lane) { return lane / width * width + (source & (width - 1)); },
                                 {"__shfl_sync", file, line});
}
template <class T> T __shfl_xor_sync(uint32_t mask, T value, int bits, int width = 32, TURL_HERE) {
  return turl::emulated::shuffle(mask, value, width, [=](int lane) { return lane ^ bits; }, {"__shfl_xor_sync", file, line});
}
template <class T> T __shfl_down_sync(uint32_t mask, T value, int by, int width = 32, TURL_HERE) {
  return turl::emulated::shuffle(mask, value, width, [=](int lane) { return lane + by; }, {"__shfl_down_sync", file, line});
}
template <class T> T __shfl_up_sync(uint32_t mask, T value, int by, int width = 32, TURL_HERE) {
  return turl::emulated::shuffle(mask, value, width, [=](int lane) { return lane - by; }, {"__shfl_up_sync", file, line});
}
inline uint32_t __ballot_sync(uint32_t mask, int vote, TURL_HERE) {
  return turl::emulated::exchange<uint32_t>(mask, vote != 0, [=](auto value_of, int) {
    uint32_t votes = 0;
    for (int lane = 0; lane < 32; lane++)
      if (mask >> lane & 1) votes |= value_of(lane) << lane;
    return votes;
  }, {"__ballot_sync", file, line});
}
inline int __any_sync(uint32_t mask, int vote, TURL_HERE) { return __ballot_sync(mask, vote, file, line) != 0; }
inline int __all_sync(uint32_t mask, int vote, TURL_HERE) { return __ballot_sync(mask, vote, file, line) == mask; }

// Integer atomics, on shared and global memory. (A sum of floats in arrival order would differ from run to run.)
template <class T> T atomicAdd(T* p, std::type_identity_t<T> value) {
  static_assert(std::is_integral_v<T>, "no floating-point atomics: their order is not fixed");
  return __atomic_fetch_add(p, value, __ATOMIC_ACQ_REL);
}
template <class T> T atomicOr(T* p, std::type_identity_t<T> value) { return __atomic_fetch_or(p, value, __ATOMIC_ACQ_REL); }
template <class T> T atomicExch(T* p, std::type_identity_t<T> value) { return __atomic_exchange_n(p, value, __ATOMIC_ACQ_REL); }
template <class T> T atomicCAS(T* p, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  __atomic_compare_exchange_n(p, &expected, value, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
  return expected;
}
template <class T> T atomicMax(T* p, std::type_identity_t<T> value) {
  T old = __atomic_load_n(p, __ATOMIC_ACQUIRE);
  while (old < value && !__atomic_compare_exchange_n(p, &old, value, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {}
  return old;
}
template <class T> T atomicMin(T* p, std::type_identity_t<T> value) {
  T old = __atomic_load_n(p, __ATOMIC_ACQUIRE);
  while (value < old && !__atomic_compare_exchange_n(p, &old, value, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {}
  return old;
}

// Bits and arithmetic.
using std::max;
using std::min;
inline int __popc(uint32_t x) { return std::popcount(x); }
inline int __clz(uint32_t x) { return std::countl_zero(x); }
inline int __ffs(uint32_t x) { return x ? std::countr_zero(x) + 1 : 0; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
template <class T> T __ldg(const T* p) { return *p; }

struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) uint2 { uint32_t x, y; };
struct alignas(16) uint4 { uint32_t x, y, z, w; };

namespace turl {

inline void begin_kernel() { emulated::self->begun = true; }

template <class T> T* dynamic_shared() {
  return reinterpret_cast<T*>(emulated::self->processor->dynamic_shared());
}

template <class... P, class... A>
void launch_unchecked(Context& context, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, A&&... arguments) {
  struct Call {
    void (*kernel)(P...);
    std::tuple<P...> arguments;
  } call{kernel, {static_cast<P>(arguments)...}};
  emulated::run_grid({grid, block, shared_bytes,
                      [](void* c) { std::apply(static_cast<Call*>(c)->kernel, static_cast<Call*>(c)->arguments); }, &call},
                     context.threads);
}

}  // namespace turl
