// How convolutions on matrix units number the pixels that they copy (conv_matrix.cpp).
#pragma once
#include <algorithm>
#include <vector>
#include "cpu/conv_patches.h"

#if defined(__AVX512BW__)

namespace turl {

constexpr int64_t unit_block = 2 * unit_side;  // result rows and columns of the four tiles of sums that are computed together
constexpr int64_t unit_size = unit_side * unit_side, unit_block_size = 4 * unit_size;

// A segment is some lines of one image of the result. Its pixels are numbered by positions: line i, column j has position i pitch + j. The
// input pixels of a segment lie in planes, one for each pixel of a stride x stride square, such that the input pixel of a tap is offset[tap]
// positions further than the result pixel, for every result pixel.
struct Grid {
  struct Plane {
    int64_t y, x;  // pixels (step i + y, step j + x) of the input
  };
  int64_t step, pitch, lines, per_image, segments;
  int64_t left = 0, first = 0, in_lines;  // zeros before a plane's first line; first input line of result line 0; lines of a plane
  int64_t plane_size, results;            // positions of a plane (even), and of the result (a multiple of unit_depth)
  int64_t beyond;                         // positions after those of the last segment that tiles may read too
  std::vector<Plane> planes;
  std::vector<int64_t> offset;

  // With segments of about `most` positions, at most a whole image.
  Grid(const Gather& g, const Phase& phase, int64_t most) : step(phase.in_step) {
    struct Place {
      int64_t plane, y, x;
    };
    std::vector<Place> places;
    const auto below = [&](int64_t i) { return i >= 0 ? i / step : -ceil_div(-i, step); };
    int64_t last = 0, width = phase.columns;
    for (const Tap& tap : phase.taps) {
      const Place at{0, below(tap.y), below(tap.x)};
      const Plane plane{tap.y - at.y * step, tap.x - at.x * step};
      int64_t index = 0;
      while (index < int64_t(planes.size()) && (planes[size_t(index)].y != plane.y || planes[size_t(index)].x != plane.x)) index++;
      if (index == int64_t(planes.size())) planes.push_back(plane);
      first = places.empty() ? at.y : std::min(first, at.y), last = places.empty() ? at.y : std::max(last, at.y);
      left = std::max(left, -at.x), width = std::max(width, at.x + phase.columns);
      places.push_back({index, at.y, at.x});
    }
    for (const Plane& plane : planes) width = std::max(width, columns_of(plane, g) + left);
    pitch = width;
    per_image = ceil_div(phase.rows, std::max<int64_t>(1, most / pitch));
    lines = ceil_div(phase.rows, per_image);
    per_image = ceil_div(phase.rows, lines);
    segments = g.batch * per_image;
    in_lines = lines + last - first;
    results = round_up(lines * pitch, unit_depth);
    plane_size = round_up(left + in_lines * pitch, 2);
    beyond = pitch + unit_depth;
    for (const Place& at : places) offset.push_back(at.plane * plane_size + (at.y - first) * pitch + at.x + left);
  }

  int64_t columns_of(const Plane& plane, const Gather& g) const { return ceil_div(g.in_w - plane.x, step); }
  int64_t positions() const { return int64_t(planes.size()) * plane_size; }

  // pixels[position] = the input pixel at each of the positions() of a segment, `zero` where there is none.
  void point(int64_t segment, const bfloat16** pixels, const bfloat16* in, const bfloat16* zero, const Gather& g) const {
    const int64_t image = segment / per_image, line = segment % per_image * lines + first;
    std::fill(pixels, pixels + positions(), zero);
    for (size_t p = 0; p < planes.size(); p++)
      for (int64_t i = 0; i < in_lines; i++) {
        const int64_t y = (line + i) * step + planes[p].y, columns = columns_of(planes[p], g);
        const bfloat16** at = pixels + int64_t(p) * plane_size + left + i * pitch;
        const bfloat16* row = in + ((image * g.in_h + y) * g.in_w + planes[p].x) * g.in_c;
        if (y >= 0 && y < g.in_h)
          for (int64_t j = 0; j < columns; j++) at[j] = row + j * step * g.in_c;
      }
  }
  // pixels[position] = the result pixel at each of the `results` positions of a segment, `none` where there is none.
  template <class T> void point_results(int64_t segment, T** pixels, T* out, T* none, const Gather& g, const Phase& phase) const {
    const int64_t image = segment / per_image, line = segment % per_image * lines;
    std::fill(pixels, pixels + results, none);
    for (int64_t i = line; i < std::min(phase.rows, line + lines); i++) {
      T* row = out + ((image * g.out_h + phase.out_y + i * phase.out_step) * g.out_w + phase.out_x) * g.groups * g.width;
      for (int64_t j = 0; j < phase.columns; j++)
        pixels[(i - line) * pitch + j] = row + j * phase.out_step * g.groups * g.width;
    }
  }
};

}  // namespace turl
#endif
