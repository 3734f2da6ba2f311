// Forward convolution and its gradient with respect to the image are both a gather: a result pixel is a sum over taps of (input pixel) x
// (matrix of the tap). For a chunk of result pixels, a table holds pointers to the input pixels.
//
// The image's gradient with stride s consists of s x s phases: the pixels (s i + p, s j + q) meet only the taps u = p + padding
// (mod s), v = q + padding (mod s), so no product with a zero is computed.
#pragma once
#include <vector>
#include "convolution.h"
#include "cpu/blocks.h"

namespace turl {

struct Tap {
  int64_t y, x;   // input pixel = in_step (i, j) + (y, x)
  int64_t index;  // among the window's taps, row by row
};

// Result pixels (out_y + out_step i, out_x + out_step j) for i < rows, j < columns.
struct Phase {
  int64_t rows, columns, out_step, out_y, out_x, in_step;
  std::vector<Tap> taps;
};

// What is gathered: from in [batch, in_h, in_w, in_c], of which each group reads `depth` channels of a pixel, to
// out [batch, out_h, out_w, groups * width].
struct Gather {
  int64_t batch, in_h, in_w, in_c, out_h, out_w, groups, depth, width;
  // The weight of (group, tap, input channel d, output channel j) is weight[group group_step + tap tap_step + d d_step + j j_step].
  int64_t group_step, tap_step, d_step, j_step;
};

// The table of a chunk of `step` result pixels, in memory of its thread.
template <class T> struct Table {
  const T** rows;  // [taps][step], input pixels
  T** result;      // [step]
  Table(int64_t taps, int64_t step)
      : rows(reinterpret_cast<const T**>(thread_memory<Slot::pointers>((taps + 1) * step * 2))), result(const_cast<T**>(rows + taps * step)) {}
};

// Fills the table, whose step is `step`, for pixels [begin, end) of a phase: rows[t][p] points to the input pixel that tap t of result pixel p
// meets, or to `zero` outside of the image; result[p] points to the result pixel.
template <class T>
void point(const Table<T>& table, int64_t step, int64_t begin, int64_t end, const T* in, T* out, const T* zero, const Gather& g,
           const Phase& phase) {
  const auto [rows, result] = table;
  const int64_t out_c = g.groups * g.width, taps = int64_t(phase.taps.size());
  for (int64_t p = begin; p < end;) {
    const int64_t first = p % phase.columns, i = p / phase.columns % phase.rows, b = p / phase.columns / phase.rows;
    const int64_t count = std::min(phase.columns - first, end - p), at = p - begin;
    T* line = out + ((b * g.out_h + phase.out_y + i * phase.out_step) * g.out_w + phase.out_x) * out_c;
    for (int64_t k = 0; k < count; k++) result[at + k] = line + (first + k) * phase.out_step * out_c;
    for (int64_t t = 0; t < taps; t++) {
      const T** row = rows + t * step + at;
      const int64_t y = i * phase.in_step + phase.taps[size_t(t)].y, x = first * phase.in_step + phase.taps[size_t(t)].x;
      // The columns [from, to) of the line whose input column x + k in_step lies in the image.
      const bool inside = y >= 0 && y < g.in_h;
      const int64_t to = inside && x < g.in_w ? std::min(count, ceil_div(g.in_w - x, phase.in_step)) : 0;
      const int64_t from = std::min(to, x < 0 ? ceil_div(-x, phase.in_step) : 0);
      const T* pixel = in + ((b * g.in_h + y) * g.in_w + x) * g.in_c;
      for (int64_t k = 0; k < from; k++) row[k] = zero;
      for (int64_t k = from; k < to; k++) row[k] = pixel + k * phase.in_step * g.in_c;
      for (int64_t k = to; k < count; k++) row[k] = zero;
    }
    p += count;
  }
  for (int64_t t = 0; t < taps; t++) std::fill(rows + t * step + end - begin, rows + (t + 1) * step, zero);
}

// Whether a pixel has so few channels (the first layer) that its whole patch, taps x channels, takes their place.
inline bool few_channels(int64_t channels, int64_t groups) { return channels < 8 && groups == 1; }

// The forward pass as a gather, and its only phase.
inline std::pair<Gather, Phase> forward_gather(const Convolution& s) {
  const int64_t cg = s.group_channels(), og = s.group_out_channels();
  const Gather g{s.batch, s.height, s.width, s.channels, s.out_height(), s.out_width(), s.groups, cg, og,
                 og * s.taps() * cg, cg, 1, s.taps() * cg};
  Phase phase{s.out_height(), s.out_width(), 1, 0, 0, s.stride, {}};
  for (int64_t u = 0; u < s.kernel_h; u++)
    for (int64_t v = 0; v < s.kernel_w; v++) phase.taps.push_back({u - s.padding, v - s.padding, u * s.kernel_w + v});
  return {g, phase};
}

// The image's gradient as a gather from dy, and its phases.
inline std::pair<Gather, std::vector<Phase>> backward_gather(const Convolution& s) {
  const int64_t cg = s.group_channels(), og = s.group_out_channels();
  const Gather g{s.batch, s.out_height(), s.out_width(), s.out_channels, s.height, s.width, s.groups, og, cg,
                 og * s.taps() * cg, cg, s.taps() * cg, 1};
  std::vector<Phase> phases;
  for (int64_t p = 0; p < s.stride; p++)
    for (int64_t q = 0; q < s.stride; q++) {
      Phase phase{(s.height - p + s.stride - 1) / s.stride, (s.width - q + s.stride - 1) / s.stride, s.stride, p, q, 1, {}};
      for (int64_t u = (p + s.padding) % s.stride; u < s.kernel_h; u += s.stride)
        for (int64_t v = (q + s.padding) % s.stride; v < s.kernel_w; v += s.stride)
          phase.taps.push_back({(p + s.padding - u) / s.stride, (q + s.padding - v) / s.stride, u * s.kernel_w + v});
      phases.push_back(phase);
    }
  return {g, phases};
}

}  // namespace turl
