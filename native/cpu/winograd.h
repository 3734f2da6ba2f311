// The three transforms behind Winograd's convolution F(4x4, 3x3), on vectors of channels.
//
// Four outputs of a window of three depend on six inputs. Input and window are taken as polynomials, which are multiplied by their values at
// the points 0, a, -a, b, -b and infinity; the sums that give the outputs back are the transpose of this evaluation. In one dimension
//   y = At ((G w) * (Bt d)) with y [4], w [3], d [6],
//   At[i][p] = p^i, infinity taking part in y[3] only;
//   G[p] = (1, p, p^2) / product over points q != p of (p - q), infinity: (0, 0, 1);
//   Bt[p] = coefficients of the product over q != p of (x - q), infinity: of all finite q.
// In two dimensions each is applied to columns and rows: 36 products in place of 144. The gradient with respect to the weight
// is the transpose: dw = Gt ((A dy) * (Bt d)).
//
// Here a = 3/4 and b = 3/2, whose powers stay near 1: the error is half of that with the usual 1 and 2 (docs/decisions/0007-winograd.md).
// Their powers up to the third are exact in float32.
#pragma once
#include "cpu/channels.h"

namespace turl::winograd {

constexpr int points = 6, outputs = 4, window = 3;  // of one dimension
constexpr int positions = points * points;
constexpr float a1 = 0.75f, a2 = a1 * a1, a3 = a2 * a1, b1 = 1.5f, b2 = b1 * b1, b3 = b2 * b1;

// The values at point and -point share their products: out = even + point odd and even - point odd.
inline void with_both_signs(vfloat* out, float point, vfloat odd, vfloat even) {
  out[0] = fma(splat(point), odd, even);
  out[1] = fma(splat(-point), odd, even);
}

// out [points] = Bt d [points]
inline void input_line(vfloat* out, const vfloat* d) {
  const vfloat product = splat(a2 * b2), total = splat(-(a2 + b2));
  out[0] = fma(product, d[0], fma(total, d[2], d[4]));
  with_both_signs(out + 1, a1, fma(splat(-b2), d[1], d[3]), fma(splat(-b2), d[2], d[4]));
  with_both_signs(out + 3, b1, fma(splat(-a2), d[1], d[3]), fma(splat(-a2), d[2], d[4]));
  out[5] = fma(product, d[1], fma(total, d[3], d[5]));
}

// Of a tile that reaches beyond the image only the first `wanted` outputs are needed. Inputs on which only the other outputs depend may have
// any value. They are chosen such that Bt d is 0 at infinity, then at b, then at -b: where it is 0, nothing needs to be multiplied.
inline void choose_free_inputs(vfloat* d, int wanted) {
  if (wanted < 2) d[3] = splat(a2) * d[1];
  if (wanted < 3) d[4] = fma(splat(a2), d[2], splat(-b1) * fma(splat(-a2), d[1], d[3]));
}
// Whether Bt d may differ from 0 at a point.
inline bool needed(int point, int wanted) { return point < 3 || wanted > (point == 5 ? 3 : point == 3 ? 2 : 1); }

// out [outputs] = At m [points]
inline void output_line(vfloat* out, const vfloat* m) {
  const vfloat even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
  out[0] = m[0] + even_a + even_b;
  out[1] = fma(splat(a1), odd_a, splat(b1) * odd_b);
  out[2] = fma(splat(a2), even_a, splat(b2) * even_b);
  out[3] = fma(splat(a3), odd_a, fma(splat(b3), odd_b, m[5]));
}

// out [points] = A y [outputs]
inline void gradient_line(vfloat* out, const vfloat* y) {
  out[0] = y[0];
  with_both_signs(out + 1, a1, fma(splat(a2), y[3], y[1]), fma(splat(a2), y[2], y[0]));
  with_both_signs(out + 3, b1, fma(splat(b2), y[3], y[1]), fma(splat(b2), y[2], y[0]));
  out[5] = y[3];
}

constexpr float at_0 = 1 / (a2 * b2), at_a = 1 / (2 * a2 * (a2 - b2)), at_b = 1 / (2 * b2 * (b2 - a2));

// out [points] = G w [window]
inline void window_line(vfloat* out, const vfloat* w) {
  out[0] = splat(at_0) * w[0];
  with_both_signs(out + 1, at_a * a1, w[1], splat(at_a) * fma(splat(a2), w[2], w[0]));
  with_both_signs(out + 3, at_b * b1, w[1], splat(at_b) * fma(splat(b2), w[2], w[0]));
  out[5] = w[2];
}

// out [window] = Gt s [points]
inline void window_gradient_line(vfloat* out, const vfloat* s) {
  const vfloat even_a = splat(at_a) * (s[1] + s[2]), even_b = splat(at_b) * (s[3] + s[4]);
  out[0] = fma(splat(at_0), s[0], even_a + even_b);
  out[1] = fma(splat(at_a * a1), s[1] - s[2], splat(at_b * b1) * (s[3] - s[4]));
  out[2] = fma(splat(a2), even_a, fma(splat(b2), even_b, s[5]));
}

// One of these transforms in two dimensions: `down` on the columns of from x from vectors, then `across` on the rows of the result.
// read(row, column) gives an input vector, write(row, column, vector) takes one of to x to results. Loops over channels call this through
// functions that are not inlined: otherwise the compiler keeps 36 addresses for the whole loop.
template <int from, int to, class Down, class Across, class Read, class Write>
inline __attribute__((always_inline)) void in_two_dimensions(Down&& down, Across&& across, Read&& read, Write&& write) {
  vfloat half[to][from];
#pragma GCC unroll 6
  for (int j = 0; j < from; j++) {
    vfloat in[from], out[to];
#pragma GCC unroll 6
    for (int i = 0; i < from; i++) in[i] = read(i, j);
    down(out, in);
#pragma GCC unroll 6
    for (int i = 0; i < to; i++) half[i][j] = out[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < to; i++) {
    vfloat out[to];
    across(out, half[i]);
#pragma GCC unroll 6
    for (int j = 0; j < to; j++) write(i, j, out[j]);
  }
}
template <int from, int to, class Line, class Read, class Write>
inline __attribute__((always_inline)) void in_two_dimensions(Line&& line, Read&& read, Write&& write) {
  in_two_dimensions<from, to>(line, line, read, write);
}

}  // namespace turl::winograd
