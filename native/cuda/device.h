// How to write a CUDA kernel here. A kernel is written once and compiled twice: by nvcc for the GPU, and by the host compiler for
// the emulated device, which runs it on the CPU with every barrier and check (native/emulated). A .cu file includes this header
// (and kernels.h) and nothing of CUDA's own:
//
//   template <class T> __global__ void scale_kernel(T* y, const T* x, float by, int64_t n) {
//     begin_kernel();
//     int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
//     if (i < n) y[i] = T(by * float(x[i]));
//   }
//   void scale(Context& context, Out y, In x, double by) {
//     with_float(x.dtype, [&]<class T>() {
//       launch(context, scale_kernel<T>, blocks_for(x.size, 256), 256, 0, y.as<T>(), x.as<T>(), by, x.size);
//     });
//   }
//
// The same as in CUDA: threadIdx, blockIdx, blockDim, gridDim, __global__, __device__, __launch_bounds__, __syncthreads,
// __syncwarp, __shfl_{,xor_,down_,up_}sync, __ballot_sync, __any_sync, __all_sync, atomicAdd/Max/Min/Or/Exch/CAS on integers,
// float4 and its like, rsqrtf, __expf, __logf, __ldg, __popc, __clz, __ffs.
// Different from CUDA:
//   begin_kernel();                          the first statement of every kernel
//   TURL_SHARED(float, tile, [32][33]);      __shared__ float tile[32][33];      at most 48 KiB in all
//   TURL_SHARED(int, count);                 __shared__ int count;
//   float* tile = dynamic_shared<float>();   extern __shared__, 1024-byte aligned; at most Context::shared_memory with the static
//   launch(context, kernel, grid, block, shared_bytes, arguments...);
// launch() converts the arguments to the kernel's parameter types, does nothing for an empty grid, raises the shared memory limit
// and throws when the configuration is out of range or the launch failed. `#pragma unroll` works on both sides.
//
// On the emulated device shared memory starts as NaN; every lane of a mask must come to the same statement; every thread of the block must
// come to the same __syncthreads (no early return before one); a deadlock is reported with thread, primitive, file and line. A thread may
// not spin on memory that another one writes.
// More wrappers: matrix instructions in mma.h, and for sm_90 warpgroup.h; asynchronous copies in async.h, and for sm_90 tensor_map.h.
// Reductions: reduce.h.
#pragma once
#include "types.h"

#ifdef TURL_EMULATED
#include "emulated/device.h"
#else
#include <cuda_runtime.h>
#include <mutex>
#include <unordered_map>
#include "cuda/capability.h"
// Aligned so that it can be accessed in packs of 16 bytes.
#define TURL_SHARED(type, name, ...) __shared__ __align__(16) type name __VA_ARGS__

namespace turl {

template <class T> __device__ T* dynamic_shared() {
  extern __shared__ __align__(1024) unsigned char turl_dynamic_shared[];
  return reinterpret_cast<T*>(turl_dynamic_shared);
}

// A kernel's first statement; before it, a kernel must not access memory that others write. With TURL_CUDA_NOT_TIMED=early, launch() lets
// the blocks of a kernel start as soon as all blocks of the kernel before it have started and there is room. Here they wait until
// everything that the kernel before wrote is in memory (programmatic dependent launch).
__device__ inline void begin_kernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

inline void check_cuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // clears the error, so that the next launch does not report it again
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

// Allows a kernel so much dynamic shared memory. 48 KiB in all are always allowed; of these, static variables take at most 32 KiB in a
// kernel that has dynamic memory too (the emulated device checks that), which leaves 16. The limit is never lowered: it belongs to the
// kernel, and graphs may have been captured with several sizes.
inline void allow_shared_memory(const void* kernel, size_t bytes) {
  if (bytes <= (16 << 10)) return;
  static std::mutex mutex;
  static std::unordered_map<const void*, size_t> allowed;
  std::lock_guard lock(mutex);
  size_t& most = allowed[kernel];
  if (bytes <= most) return;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes)), "shared memory");
  most = bytes;
}

template <class... P, class... A>
void launch_unchecked(Context& context, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, A&&... arguments) {
  allow_shared_memory(reinterpret_cast<const void*>(kernel), shared_bytes);
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid, config.blockDim = block, config.dynamicSmemBytes = shared_bytes;
  config.stream = static_cast<cudaStream_t>(context.stream);
  config.attrs = &early, config.numAttrs = has_warpgroups(context) && not_timed().early ? 1 : 0;
  check_cuda(cudaLaunchKernelEx(&config, kernel, static_cast<P>(arguments)...), "launch");
}

}  // namespace turl
#endif

namespace turl {

constexpr uint32_t full_warp = 0xffffffffu;

// 16 bytes of T, read and written in one access; the address must be a multiple of 16 bytes.
template <class T> struct alignas(16) Pack {
  static constexpr int size = 16 / sizeof(T);
  T v[size];
  TURL_BOTH T& operator[](int i) { return v[i]; }
  TURL_BOTH const T& operator[](int i) const { return v[i]; }
};
// `width` neighbouring elements of T, up to 16 bytes of them, read and written in one access.
template <class T, int width> struct alignas(width * sizeof(T)) Group {
  static_assert(width * sizeof(T) <= 16);
  T v[width];
};
// Work is divided for the multiprocessors of an H100, whatever the GPU, so that the order of sums is the same on every GPU.
constexpr int h100_multiprocessors = 132;

// Whether rows of `columns` elements at these addresses can be read in packs.
template <class T, class... A> bool packs(int64_t columns, const A*... arrays) {
  return columns % Pack<T>::size == 0 && ((reinterpret_cast<uintptr_t>(arrays) % 16 == 0) && ...);
}

template <class T> TURL_BOTH constexpr T ceil_div(T a, T b) { return (a + b - 1) / b; }

// The grid of n items, `per_block` of them in each block.
inline dim3 blocks_for(int64_t n, int64_t per_block) { return {unsigned(ceil_div(n, per_block)), 1, 1}; }

template <class... P, class... A>
void launch(Context& context, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, A&&... arguments) {
  static_assert(sizeof...(P) == sizeof...(A), "launch: the kernel takes another number of arguments");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  uint64_t threads = uint64_t(block.x) * block.y * block.z;
  if (threads == 0 || threads > 1024 || block.z > 64)
    throw std::runtime_error("launch: a block has 1 to 1024 threads, got " + std::to_string(threads));
  if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    throw std::runtime_error("launch: the grid is at most 2147483647 x 65535 x 65535, got " + std::to_string(grid.x) + " x " +
                             std::to_string(grid.y) + " x " + std::to_string(grid.z));
  if (shared_bytes > context.shared_memory)
    throw std::runtime_error("launch: a block has at most " + std::to_string(context.shared_memory >> 10) + " KiB of shared memory, got " +
                             std::to_string(shared_bytes) + " bytes");
  context.launches++;
  launch_unchecked(context, kernel, grid, block, shared_bytes, std::forward<A>(arguments)...);
}

}  // namespace turl
