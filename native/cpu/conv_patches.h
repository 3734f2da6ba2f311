// Patches, for convolutions of bfloat16 images whose pixels have few channels (the first layer): the values that all taps of a result pixel
// meet, side by side.
#pragma once
#include "cpu/bfloat16_rows.h"
#include "cpu/conv_gather.h"
#include "cpu/matrix_units.h"

#if defined(__AVX512BW__)

namespace turl {

// Whether patches take the place of the channels: where the values of a tap lie side by side in the weight, as in the forward pass.
inline bool takes_patches(const Gather& g, const Phase& phase) {
  return few_channels(g.depth, g.groups) && g.d_step == 1 && !phase.taps.empty();
}

// A forward convolution as a 1x1 convolution whose pixels are patches of `length` values, a multiple of unit_depth. The values of the taps of
// one line of the window lie side by side in the image.
struct Patches {
  struct Run {  // the taps of one line of the window: the first, how many, and the pixel of the first
    int64_t first, count, y, x;
  };
  const Gather& g;
  const Phase& phase;
  int64_t depth, length;
  std::vector<Run> runs;

  Patches(const Gather& g, const Phase& phase)
      : g(g), phase(phase), depth(int64_t(phase.taps.size()) * g.depth), length(round_up(depth, unit_depth)) {
    for (size_t t = 0; t < phase.taps.size(); t++) {
      const Tap& tap = phase.taps[t];
      if (runs.empty() || runs.back().y != tap.y) runs.push_back({int64_t(t), 0, tap.y, tap.x});
      runs.back().count++;
    }
  }

  // The 1x1 convolution of the patches.
  std::pair<Gather, Phase> as_channels() const {
    std::pair<Gather, Phase> same{g, phase};
    same.first.depth = depth, same.first.in_c = length, same.first.in_h = phase.rows, same.first.in_w = phase.columns;
    same.second.in_step = 1, same.second.taps = {{0, 0, 0}};
    return same;
  }

  // Makes the patches of all pixels of one line of the result, one after the other. A vector of a patch is put together from masked loads, one
  // for each run: each loads from where the vector would begin if all of it belonged to that run.
  void make(bfloat16* to, const bfloat16* in, int64_t image, int64_t line) const {
    std::vector<Run> inside;
    int64_t first = 0, last = phase.columns;  // columns that have all taps of a line
    for (Run run : runs) {
      run.y += line * phase.in_step;
      if (run.y < 0 || run.y >= g.in_h) continue;
      first = std::max(first, ceil_div(std::max<int64_t>(0, -run.x), phase.in_step));
      last = std::min(last, run.x + run.count > g.in_w ? 0 : (g.in_w - run.count - run.x) / phase.in_step + 1);
      inside.push_back(run);
    }
    first = std::min(first, phase.columns), last = std::max(first, last);
    std::vector<Part> parts(inside.size());
    for (int64_t at = 0; at < length; at += unit_depth) {
      const auto part = [&](const Run& run, int64_t j) {
        const int64_t x = j * phase.in_step + run.x, begins = run.first * g.depth - at;  // of the run in this vector
        const int64_t from = std::clamp<int64_t>(-x, 0, run.count), end = std::clamp(g.in_w - x, from, run.count);
        return Part{in + ((image * g.in_h + run.y) * g.in_w + x) * g.in_c - begins,
                    first_of(std::max<int64_t>(0, begins + end * g.depth)) & ~first_of(std::max<int64_t>(0, begins + from * g.depth))};
      };
      const auto edge = [&](int64_t j) {
        __m512i values = _mm512_setzero_si512();
        for (const Run& run : inside) values = part(run, j).load_into(values, 0);
        _mm512_storeu_si512(to + j * length + at, values);
      };
      for (int64_t j = 0; j < first; j++) edge(j);
      for (size_t i = 0; i < inside.size(); i++) parts[i] = part(inside[i], first);
      for (int64_t j = first; j < last; j++) {
        __m512i values = _mm512_setzero_si512();
        for (const Part& one : parts) values = one.load_into(values, (j - first) * phase.in_step * g.in_c);
        _mm512_storeu_si512(to + j * length + at, values);
      }
      for (int64_t j = last; j < phase.columns; j++) edge(j);
    }
  }

 private:
  struct Part {  // what one run gives to a vector
    const bfloat16* from;
    __mmask32 wanted;
    __m512i load_into(__m512i values, int64_t offset) const { return _mm512_mask_loadu_epi16(values, wanted, from + offset); }
  };
};

}  // namespace turl
#endif
