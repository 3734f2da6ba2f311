// bfloat16 arrays for kernels that read and write float32 only: widened before, rounded to nearest even after.
#pragma once
#include "cpu/parallel.h"
#include "cpu/simd.h"

namespace turl {

// The array as float32: itself, or a copy in scratch memory.
inline const float* widened(Context& context, In x) {
  if (x.dtype == DType::float32) return x.as<float>();
  const bfloat16* in = x.as<bfloat16>();
  float* out = static_cast<float*>(context.scratch(size_t(std::max<int64_t>(x.size, 1)) * 4));
  parallel_for(context, x.size, 65536, [&](int64_t begin, int64_t end) {
    int64_t i = begin;
    for (; i + lanes <= end; i += lanes) store(out + i, load(in + i));
    for (; i < end; i++) out[i] = in[i];
  });
  return out;
}

// f(float*) writes the array; a bfloat16 array is rounded from a float32 one in scratch memory.
template <class F> void with_narrowed(Context& context, Out y, F&& f) {
  if (y.dtype == DType::float32) return f(y.as<float>());
  bfloat16* out = y.as<bfloat16>();
  float* wide = static_cast<float*>(context.scratch(size_t(std::max<int64_t>(y.size, 1)) * 4));
  f(wide);
  parallel_for(context, y.size, 65536, [&](int64_t begin, int64_t end) {
    int64_t i = begin;
    for (; i + lanes <= end; i += lanes) store(out + i, load(wide + i));
    for (; i < end; i++) out[i] = bfloat16(wide[i]);
  });
}

}  // namespace turl
