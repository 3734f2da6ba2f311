// Vectors of the instruction set this file is compiled for, by GCC's vector extensions: + - * / and comparisons work as they
// are, `lanes` of float per vector. The same source is compiled for each instruction set (CMakeLists.txt).
#pragma once
#include <cmath>
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

// The bits of bfloat16(float): rounded to nearest even, a NaN kept.
inline vhalf round_lanes(vfloat v) {
#if defined(__AVX512DQ__)
  constexpr int denormal = 0x20;  // the processor's own instruction makes zeros of these
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

// v[i][j] becomes v[j][i]: blocks of half as many lanes change places, then those of a quarter, and so on.
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
        v[i] = __builtin_shuffle(low, high, from_low);
        v[i + width] = __builtin_shuffle(low, high, from_high);
      }
  }
}

// Lane i = the sum over the lanes of v[i], half onto half as in `sum`.
inline vfloat sum_each(vfloat (&v)[lanes]) {
  vint lane;
  for (int i = 0; i < lanes; i++) lane[i] = i;
#pragma GCC unroll 4
  for (int width = lanes / 2; width > 0; width /= 2) {
    const vint upper = lane & width, own = upper != 0 ? lane + lanes : lane;
#pragma GCC unroll 8
    for (int i = 0; i < width; i++)
      v[i] = __builtin_shuffle(v[i], v[i + width], own) + __builtin_shuffle(v[i], v[i + width], own ^ width);
  }
  return v[0];
}

// Sum over the lanes, half onto half until one is left, so always in the same order.
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

inline vfloat sqrt(vfloat x) {
#if defined(__AVX512F__)
  return _mm512_maskz_sqrt_ps(0xffff, x);
#elif defined(__AVX2__)
  return _mm256_sqrt_ps(x);
#else
  for (int i = 0; i < lanes; i++) x[i] = std::sqrt(x[i]);
  return x;
#endif
}

// e^x with a relative error below 2e-7 (Cephes' expf polynomial after reduction by ln 2); 0 below -87.3, infinity above 88.7,
// NaN for NaN.
inline vfloat exp(vfloat x) {
  vfloat clamped = vmin(vmax(x, splat(-88.0f)), splat(89.0f));
  vfloat t = clamped * splat(1.44269504088896341f);
  vfloat n = (t + splat(12582912.0f)) - splat(12582912.0f);  // round to nearest
  vfloat r = fma(n, splat(-0.693359375f), clamped);
  r = fma(n, splat(2.12194440e-4f), r);
  vfloat p = splat(1.9875691500e-4f);
  p = fma(p, r, splat(1.3981999507e-3f));
  p = fma(p, r, splat(8.3334519073e-3f));
  p = fma(p, r, splat(4.1665795894e-2f));
  p = fma(p, r, splat(1.6666665459e-1f));
  p = fma(p, r, splat(5.0000001201e-1f));
  p = fma(p * r, r, r) + splat(1.0f);
  vint half = __builtin_convertvector(n, vint) / 2;  // in two steps, so that 2^n may leave the normal range
  vint rest = __builtin_convertvector(n, vint) - half;
  vint b1 = (half + 127) << 23, b2 = (rest + 127) << 23;
  vfloat s1, s2;
  memcpy(&s1, &b1, sizeof s1);
  memcpy(&s2, &b2, sizeof s2);
  vfloat y = p * s1 * s2;
  y = select(x < splat(-87.3f), vfloat{}, y);
  y = select(x > splat(88.72f), splat(INFINITY), y);
  return select(x == x, y, x);
}

// ln x for a normal x > 0 with a relative error below 2e-7 (Cephes' logf polynomial on [sqrt 1/2, sqrt 2)); undefined elsewhere.
inline vfloat log(vfloat x) {
  vint bits;
  memcpy(&bits, &x, sizeof bits);
  vint exponent = (bits - 0x3f3504f3) >> 23;  // of x / sqrt 1/2
  bits -= exponent << 23;
  vfloat t;
  memcpy(&t, &bits, sizeof t);
  t -= splat(1.0f);
  vfloat p = splat(7.0376836292e-2f);
  for (float c : {-1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f, 1.4249322787e-1f, -1.6668057665e-1f, 2.0000714765e-1f,
                  -2.4999993993e-1f, 3.3333331174e-1f})
    p = fma(p, t, splat(c));
  const vfloat e = __builtin_convertvector(exponent, vfloat), square = t * t;
  p = fma(p * t, square, e * splat(-2.12194440e-4f));
  return fma(e, splat(0.693359375f), t + fma(square, splat(-0.5f), p));
}

}  // namespace turl
