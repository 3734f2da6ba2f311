// Mathematical functions of float32 vectors; each says how exact it is.
#pragma once
#include <cmath>
#include "cpu/simd.h"

namespace turl {

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
inline vfloat log_of_normal(vfloat x) {
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

// ln x for every x, as exact as log_of_normal: -infinity at 0, NaN below.
inline vfloat log(vfloat x) {
  const vint denormal = x < 0x1p-126f;
  const vfloat y = log_of_normal(select(denormal, x * 0x1p23f, x)) - select(denormal, splat(15.942385f), vfloat{});  // 23 ln 2
  return select(x > 0.0f, select(x < INFINITY, y, x), select(x == 0.0f, splat(-INFINITY), splat(NAN)));
}

// ln(1 + x) with a relative error below 4e-7: the factor x / (u - 1) corrects for what rounding u = 1 + x has lost (Kahan).
inline vfloat log1p(vfloat x) {
  const vfloat u = 1.0f + x, rounded = u - 1.0f;
  return select(rounded == 0.0f, x, log(u) * select(rounded == x, splat(1.0f), x / rounded));
}

// With a relative error below 3e-7: Cephes' tanhf polynomial near 0, 1 - 2 / (e^2|x| + 1) elsewhere.
inline vfloat tanh(vfloat x) {
  const vfloat size = x < 0.0f ? -x : x, z = x * x, far = 1.0f - 2.0f / (exp(2.0f * size) + 1.0f);
  vfloat p = splat(-5.70498872745e-3f);
  for (float c : {2.06390887954e-2f, -5.37397155531e-2f, 1.33314422036e-1f, -3.33332819422e-1f}) p = fma(p, z, splat(c));
  return select(size < 0.625f, x * fma(p, z, splat(1.0f)), x < 0.0f ? -far : far);
}

}  // namespace turl
