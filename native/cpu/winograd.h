// The three transforms behind Winograd's convolution F(4x4, 3x3), on vectors of channels.
//
// Four outputs of a window of three come from six inputs. Input and window are polynomials; their product is taken at the points
// 0, a, -a, b, -b and infinity, and the sums that give the outputs back are the transpose of evaluation. In one dimension
//   y = At ((G w) * (Bt d)) with y [4], w [3], d [6],
//   At[i][p] = p^i, infinity taking part in y[3] only;
//   G[p] = (1, p, p^2) / product over points q != p of (p - q), infinity: (0, 0, 1);
//   Bt[p] = coefficients of the product over q != p of (x - q), infinity: of all finite q.
// In two dimensions each is applied to columns and rows: 36 products in place of 144. The gradient with respect to the weight
// is the transpose: dw = Gt ((A dy) * (Bt d)).
//
// The points 3/4 and 3/2 keep powers near 1: the error is half of that with the usual 1 and 2 (docs/decisions/0007-winograd.md).
// Up to the third power they are exact in float32.
#pragma once
#include "cpu/channels.h"

namespace turl::winograd {

constexpr int points = 6, outputs = 4, window = 3;  // of one dimension
constexpr int positions = points * points;
constexpr float a1 = 0.75f, a2 = a1 * a1, a3 = a2 * a1, b1 = 1.5f, b2 = b1 * b1, b3 = b2 * b1;

// out[0], out[step], ... = Bt d
inline void input_line(vfloat* out, int step, vfloat d0, vfloat d1, vfloat d2, vfloat d3, vfloat d4, vfloat d5) {
  const vfloat product = splat(a2 * b2), total = splat(-(a2 + b2));
  out[0] = fma(product, d0, fma(total, d2, d4));
  const vfloat even_a = fma(splat(-b2), d2, d4), odd_a = fma(splat(-b2), d1, d3);
  out[step] = fma(splat(a1), odd_a, even_a);
  out[2 * step] = fma(splat(-a1), odd_a, even_a);
  const vfloat even_b = fma(splat(-a2), d2, d4), odd_b = fma(splat(-a2), d1, d3);
  out[3 * step] = fma(splat(b1), odd_b, even_b);
  out[4 * step] = fma(splat(-b1), odd_b, even_b);
  out[5 * step] = fma(product, d1, fma(total, d3, d5));
}

// out = At m
inline void output_line(vfloat* out, int step, vfloat m0, vfloat m1, vfloat m2, vfloat m3, vfloat m4, vfloat m5) {
  const vfloat even_a = m1 + m2, odd_a = m1 - m2, even_b = m3 + m4, odd_b = m3 - m4;
  out[0] = m0 + even_a + even_b;
  out[step] = fma(splat(a1), odd_a, splat(b1) * odd_b);
  out[2 * step] = fma(splat(a2), even_a, splat(b2) * even_b);
  out[3 * step] = fma(splat(a3), odd_a, fma(splat(b3), odd_b, m5));
}

// out = A dy
inline void gradient_line(vfloat* out, int step, vfloat y0, vfloat y1, vfloat y2, vfloat y3) {
  out[0] = y0;
  const vfloat even_a = fma(splat(a2), y2, y0), odd_a = fma(splat(a2), y3, y1);
  out[step] = fma(splat(a1), odd_a, even_a);
  out[2 * step] = fma(splat(-a1), odd_a, even_a);
  const vfloat even_b = fma(splat(b2), y2, y0), odd_b = fma(splat(b2), y3, y1);
  out[3 * step] = fma(splat(b1), odd_b, even_b);
  out[4 * step] = fma(splat(-b1), odd_b, even_b);
  out[5 * step] = y3;
}

constexpr float at_0 = 1 / (a2 * b2), at_a = 1 / (2 * a2 * (a2 - b2)), at_b = 1 / (2 * b2 * (b2 - a2));

// out = G w
inline void window_line(vfloat* out, int step, vfloat w0, vfloat w1, vfloat w2) {
  out[0] = splat(at_0) * w0;
  const vfloat even_a = splat(at_a) * fma(splat(a2), w2, w0), even_b = splat(at_b) * fma(splat(b2), w2, w0);
  out[step] = fma(splat(at_a * a1), w1, even_a);
  out[2 * step] = fma(splat(-at_a * a1), w1, even_a);
  out[3 * step] = fma(splat(at_b * b1), w1, even_b);
  out[4 * step] = fma(splat(-at_b * b1), w1, even_b);
  out[5 * step] = w2;
}

// out = Gt s
inline void window_gradient_line(vfloat* out, int step, vfloat s0, vfloat s1, vfloat s2, vfloat s3, vfloat s4, vfloat s5) {
  const vfloat even_a = splat(at_a) * (s1 + s2), even_b = splat(at_b) * (s3 + s4);
  out[0] = fma(splat(at_0), s0, even_a + even_b);
  out[step] = fma(splat(at_a * a1), s1 - s2, splat(at_b * b1) * (s3 - s4));
  out[2 * step] = fma(splat(a2), even_a, fma(splat(b2), even_b, s5));
}

// The same in two dimensions. The 36 positions of a tile lie `step` apart in memory; read(row, column) gives a vector of the other
// side and write(row, column, vector) takes one. Loops over channels call these through functions that are not inlined: otherwise
// the compiler carries 36 addresses along.
template <class Read> inline void transform_input(float* to, int64_t step, Read&& read) {
  vfloat half[points][points], line[points];
#pragma GCC unroll 6
  for (int j = 0; j < points; j++)
    input_line(&half[0][j], points, read(0, j), read(1, j), read(2, j), read(3, j), read(4, j), read(5, j));
#pragma GCC unroll 6
  for (int i = 0; i < points; i++) {
    const vfloat* h = half[i];
    input_line(line, 1, h[0], h[1], h[2], h[3], h[4], h[5]);
#pragma GCC unroll 6
    for (int j = 0; j < points; j++, to += step) store(to, line[j]);
  }
}

template <class Write> inline void transform_output(const float* from, int64_t step, Write&& write) {
  vfloat half[points][outputs], line[points];
#pragma GCC unroll 6
  for (int i = 0; i < points; i++) {
#pragma GCC unroll 6
    for (int j = 0; j < points; j++, from += step) line[j] = load(from);
    output_line(half[i], 1, line[0], line[1], line[2], line[3], line[4], line[5]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < outputs; j++) {
    output_line(line, 1, half[0][j], half[1][j], half[2][j], half[3][j], half[4][j], half[5][j]);
#pragma GCC unroll 4
    for (int i = 0; i < outputs; i++) write(i, j, line[i]);
  }
}

template <class Read> inline void transform_gradient(float* to, int64_t step, Read&& read) {
  vfloat half[points][outputs], line[points];
#pragma GCC unroll 4
  for (int j = 0; j < outputs; j++) gradient_line(&half[0][j], outputs, read(0, j), read(1, j), read(2, j), read(3, j));
#pragma GCC unroll 6
  for (int i = 0; i < points; i++) {
    gradient_line(line, 1, half[i][0], half[i][1], half[i][2], half[i][3]);
#pragma GCC unroll 6
    for (int j = 0; j < points; j++, to += step) store(to, line[j]);
  }
}

template <bool past = false, class Read> inline void transform_window(float* to, int64_t step, Read&& read) {
  vfloat half[points][window], line[points];
#pragma GCC unroll 3
  for (int j = 0; j < window; j++) window_line(&half[0][j], window, read(0, j), read(1, j), read(2, j));
#pragma GCC unroll 6
  for (int i = 0; i < points; i++) {
    window_line(line, 1, half[i][0], half[i][1], half[i][2]);
#pragma GCC unroll 6
    for (int j = 0; j < points; j++, to += step) past ? put_past_caches(to, line[j]) : store(to, line[j]);
  }
}

template <class Write> inline void transform_window_gradient(const float* from, int64_t step, Write&& write) {
  vfloat half[points][window], line[points];
#pragma GCC unroll 6
  for (int i = 0; i < points; i++) {
#pragma GCC unroll 6
    for (int j = 0; j < points; j++, from += step) line[j] = load(from);
    window_gradient_line(half[i], 1, line[0], line[1], line[2], line[3], line[4], line[5]);
  }
#pragma GCC unroll 3
  for (int j = 0; j < window; j++) {
    window_gradient_line(line, 1, half[0][j], half[1][j], half[2][j], half[3][j], half[4][j], half[5][j]);
#pragma GCC unroll 3
    for (int i = 0; i < window; i++) write(i, j, line[i]);
  }
}

}  // namespace turl::winograd
