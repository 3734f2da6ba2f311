// What a kernel receives: element types, input and output arrays, and the context of its device. Both the host compiler and nvcc compile
// this header.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#ifdef __CUDACC__
#define TURL_BOTH __host__ __device__ inline
#else
#define TURL_BOTH inline
#endif

namespace turl {

// The order is that of `dtypes` in src/tensor/dtype.ts.
enum class DType : int32_t { float32, bfloat16, float64, int32, uint8 };

inline size_t bytes_of(DType t) {
  switch (t) {
    case DType::float64: return 8;
    case DType::bfloat16: return 2;
    case DType::uint8: return 1;
    default: return 4;
  }
}
inline const char* name_of(DType t) {
  switch (t) {
    case DType::float32: return "float32";
    case DType::bfloat16: return "bfloat16";
    case DType::float64: return "float64";
    case DType::int32: return "int32";
    default: return "uint8";
  }
}

// A brain float: the upper half of a float32, rounded to nearest even; a NaN stays a NaN.
struct bfloat16 {
  uint16_t bits;
  bfloat16() = default;
  TURL_BOTH bfloat16(float value) {
#ifdef __CUDA_ARCH__
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
#else
    uint32_t u;
    memcpy(&u, &value, 4);
    bits = (u & 0x7fffffffu) > 0x7f800000u ? uint16_t((u >> 16) | 0x40u)
                                           : uint16_t((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
#endif
  }
  TURL_BOTH operator float() const {
    uint32_t u = uint32_t(bits) << 16;
    float value;
    memcpy(&value, &u, 4);
    return value;
  }
};

// The type in which sums over T are formed: float for float32 and bfloat16, double for float64.
template <class T> struct accumulator { using type = float; };
template <> struct accumulator<double> { using type = double; };
template <class T> using acc_t = typename accumulator<T>::type;

template <class T> constexpr DType dtype_of();
template <> constexpr DType dtype_of<float>() { return DType::float32; }
template <> constexpr DType dtype_of<bfloat16>() { return DType::bfloat16; }
template <> constexpr DType dtype_of<double>() { return DType::float64; }
template <> constexpr DType dtype_of<int32_t>() { return DType::int32; }
template <> constexpr DType dtype_of<uint8_t>() { return DType::uint8; }

// An input array in device memory. `as<T>()` checks the element type.
struct In {
  const void* data;
  int64_t size;  // elements
  DType dtype;
  template <class T> const T* as() const {
    if (dtype != dtype_of<T>())
      throw std::runtime_error(std::string("expected an input of ") + name_of(dtype_of<T>()) + ", got " + name_of(dtype));
    return static_cast<const T*>(data);
  }
};

// An output array in device memory. A kernel writes all of it, and does not read it unless it is an input too.
struct Out {
  void* data;
  int64_t size;
  DType dtype;
  template <class T> T* as() const {
    if (dtype != dtype_of<T>())
      throw std::runtime_error(std::string("expected an output of ") + name_of(dtype_of<T>()) + ", got " + name_of(dtype));
    return static_cast<T*>(data);
  }
};

// Arrays that a caller may leave out; size is then 0 and data is null.
struct MaybeIn : In {};
struct MaybeOut : Out {};

// Several arrays that one call works on.
struct InList {
  std::vector<In> list;
  size_t size() const { return list.size(); }
  const In& operator[](size_t i) const { return list[i]; }
};
struct OutList {
  std::vector<Out> list;
  size_t size() const { return list.size(); }
  const Out& operator[](size_t i) const { return list[i]; }
};

// A short list of integers (strides, permutations) in host memory, valid during the call.
struct Ints {
  const int32_t* data;
  int64_t size;
  int32_t operator[](int64_t i) const { return data[i]; }
};

// What a kernel may ask its device for.
struct Context {
  virtual ~Context() = default;
  // Device memory that lives until the kernel call returns (on CUDA: until the work it launched is done).
  virtual void* scratch(size_t bytes) = 0;
  // CPU only: calls body(argument, chunk) for every chunk in [0, chunks), spread over the threads. Kernels use cpu/parallel.h.
  virtual void parallel(int64_t chunks, void (*body)(void*, int64_t), void* argument) = 0;
  int threads = 1;                   // CPU threads that parallel() uses
  void* stream = nullptr;            // cudaStream_t on CUDA
  int capability = 0;                // CUDA's compute capability that kernels may count on: 80 for 8.0
  int multiprocessors = 1;           // of the GPU
  int64_t launches = 0;              // CUDA kernels launched so far
  size_t shared_memory = 227 << 10;  // bytes of shared memory that a CUDA block may use
};

// Calls f.template operator()<T>() with the C++ type of `dtype`, which must be a floating type.
template <class F> void with_float(DType dtype, F&& f) {
  switch (dtype) {
    case DType::float32: return f.template operator()<float>();
    case DType::bfloat16: return f.template operator()<bfloat16>();
#ifndef TURL_NO_FLOAT64
    case DType::float64: return f.template operator()<double>();
#endif
    default: throw std::runtime_error(std::string("no kernel for ") + name_of(dtype) + " on this device");
  }
}

// The same for any element type.
template <class F> void with_any(DType dtype, F&& f) {
  switch (dtype) {
    case DType::int32: return f.template operator()<int32_t>();
    case DType::uint8: return f.template operator()<uint8_t>();
    default: return with_float(dtype, f);
  }
}

}  // namespace turl
