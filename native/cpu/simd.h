// Vectors of `lanes` floats for the instruction set that this file is compiled for. They are GCC's vector extensions, which Clang has too, so that + - * / and
// comparisons work on them directly. The same source is compiled for each instruction set (CMakeLists.txt).
#pragma once
#include <cstdint>
#include <cstring>
#include "types.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace turl {

#if defined(__AVX512F__)
constexpr int lanes = 16;
#elif defined(__AVX2__)
constexpr int lanes = 8;
#else
constexpr int lanes = 4;
#endif

typedef float vfloat __attribute__((vector_size(lanes * 4)));
typedef int32_t vint __attribute__((vector_size(lanes * 4)));
typedef uint32_t vword __attribute__((vector_size(lanes * 4)));
typedef uint16_t vhalf __attribute__((vector_size(lanes * 2)));

inline vfloat splat(float x) { return x - vfloat{}; }

inline vfloat load(const float* p) {
  vfloat v;
  memcpy(&v, p, sizeof v);
  return v;
}
inline void store(float* p, vfloat v) { memcpy(p, &v, sizeof v); }

// The first n < lanes elements; the rest are zero.
inline vfloat load(const float* p, int n) {
  vfloat v{};
  memcpy(&v, p, size_t(n) * 4);
  return v;
}
inline void store(float* p, vfloat v, int n) { memcpy(p, &v, size_t(n) * 4); }

// The bits of bfloat16 as floats.
inline vfloat widen_lanes(vhalf h) {
#if defined(__AVX512F__)
  const vword wide = vword(_mm512_maskz_cvtepu16_epi32(0xffff, __m256i(h))) << 16;
#elif defined(__AVX2__)
  const vword wide = vword(_mm256_cvtepu16_epi32(__m128i(h))) << 16;
#else
  const vword wide = __builtin_convertvector(h, vword) << 16;
#endif
  vfloat v;
  memcpy(&v, &wide, sizeof v);
  return v;
}
inline vfloat load(const bfloat16* p, int n = lanes) {
  vhalf h{};
  memcpy(&h, p, size_t(n) * 2);
  return widen_lanes(h);
}
#if defined(__AVX512DQ__)
// Whether the processor has an instruction that rounds to bfloat16.
inline const bool rounds_by_itself = __builtin_cpu_supports("avx512bf16");
#endif

// Floats as the bits of bfloat16: rounded to nearest even; a NaN stays a NaN.
inline vhalf round_lanes(vfloat v) {
#if defined(__AVX512DQ__)
  constexpr int denormal = 0x20;  // the instruction would make them zeros
  if (rounds_by_itself && _mm512_fpclass_ps_mask(v, denormal) == 0) {
    __m256i rounded;
    asm("vcvtneps2bf16 %1, %0" : "=v"(rounded) : "v"(v));
    return vhalf(rounded);
  }
#endif
  vword bits;
  memcpy(&bits, &v, sizeof bits);
  const vword high = bits >> 16, rounded = (bits + 0x7fffu + (high & 1u)) >> 16;
  return __builtin_convertvector(v == v ? rounded : high | 0x40u, vhalf);
}
inline void store(bfloat16* p, vfloat v, int n = lanes) {
  const vhalf h = round_lanes(v);
  memcpy(p, &h, size_t(n) * 2);
}

inline vfloat fma(vfloat a, vfloat b, vfloat c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

inline vfloat select(vint condition, vfloat a, vfloat b) { return condition ? a : b; }
inline vfloat vmax(vfloat a, vfloat b) { return a > b ? a : b; }
inline vfloat vmin(vfloat a, vfloat b) { return a < b ? a : b; }

// Lane i is lane `lane[i]` of a, or from `lanes` on one of b.
inline vfloat shuffle(vfloat a, vfloat b, vint lane) {
#if defined(__clang__)
  vfloat v;
  for (int i = 0; i < lanes; i++) v[i] = lane[i] < lanes ? a[lane[i]] : b[lane[i] - lanes];
  return v;
#else
  return __builtin_shuffle(a, b, lane);
#endif
}

// v[i][j] becomes v[j][i]: first blocks of half the lanes change places, then blocks of a quarter, and so on.
inline void transpose(vfloat (&v)[lanes]) {
  vint lane;
  for (int i = 0; i < lanes; i++) lane[i] = i;
#pragma GCC unroll 4
  for (int width = lanes / 2; width > 0; width /= 2) {
    const vint upper = lane & width;
    const vint from_low = upper != 0 ? lane + (lanes - width) : lane, from_high = upper != 0 ? lane + lanes : lane + width;
#pragma GCC unroll 16
    for (int i = 0; i < lanes; i++)
      if (!(i & width)) {
        const vfloat low = v[i], high = v[i + width];
        v[i] = shuffle(low, high, from_low);
        v[i + width] = shuffle(low, high, from_high);
      }
  }
}

// Lane i is the sum over the lanes of v[i], added half to half as in `sum`.
inline vfloat sum_each(vfloat (&v)[lanes]) {
  vint lane;
  for (int i = 0; i < lanes; i++) lane[i] = i;
#pragma GCC unroll 4
  for (int width = lanes / 2; width > 0; width /= 2) {
    const vint upper = lane & width, own = upper != 0 ? lane + lanes : lane;
#pragma GCC unroll 8
    for (int i = 0; i < width; i++)
      v[i] = shuffle(v[i], v[i + width], own) + shuffle(v[i], v[i + width], own ^ width);
  }
  return v[0];
}

// Sum over the lanes: half the lanes are added to the other half until one is left, so the order is always the same.
inline float sum(vfloat v) {
#if defined(__AVX512F__)
  const __m512d d = _mm512_castps_pd(v);
  const __m256 eight = __m256(_mm512_maskz_extractf64x4_pd(255, d, 0)) + __m256(_mm512_maskz_extractf64x4_pd(255, d, 1));
#elif defined(__AVX2__)
  const __m256 eight = v;
#endif
#if defined(__AVX2__)
  const __m128 four = _mm256_castps256_ps128(eight) + _mm256_extractf128_ps(eight, 1);
#else
  const vfloat four = v;
#endif
  return (four[0] + four[2]) + (four[1] + four[3]);
}
inline float maximum(vfloat v) {
  float best = v[0];
  for (int i = 1; i < lanes; i++) best = best > v[i] ? best : v[i];
  return best;
}

}  // namespace turl
