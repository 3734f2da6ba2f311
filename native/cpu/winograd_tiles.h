// The tiles of Winograd's convolution (winograd.h): a result of height x width pixels is cut into tiles of 4x4, of which the last
// of a line or column may reach beyond it. Each meets 6x6 input pixels, zero outside of the image.
#pragma once
#include "cpu/winograd.h"

namespace turl::winograd {

// At least n floats: an odd number of cache lines, so that values that lie this step apart (the rows of a matrix, the positions of
// a tile) fall into different sets of the first-level cache.
inline int64_t odd_lines(int64_t n) { return ((n + 15) / 16 | 1) * 16; }

struct Tiles {
  int64_t batch, height, width;

  int64_t down() const { return (height + outputs - 1) / outputs; }
  int64_t across() const { return (width + outputs - 1) / outputs; }
  int64_t count() const { return batch * down() * across(); }

  struct Place { int64_t image, i, j; };  // of a tile's first result pixel
  Place at(int64_t tile) const {
    const int64_t line = tile / across();
    return {line / down(), line % down() * outputs, tile % across() * outputs};
  }
};

// Vectors of the channels from c on of side x side pixels go to 36 positions: as an input where there are 6x6 pixels, as a result's
// gradient where there are 4x4. Meanwhile the caches fetch what is new in the next tile of the line, `next` elements further.
template <int side, bool whole, class T>
__attribute__((noinline)) void transform_pixels(float* to, int64_t step, const T* const* pixels, int64_t c, int n, int64_t next) {
  for (int u = 0; u < side; u++)
    for (int v = side - outputs; v < side; v++) __builtin_prefetch(pixels[u * side + v] + c + next);
  in_two_dimensions<side, points>(
      side == points ? input_line : gradient_line,
      [&](int u, int v) { return whole ? load(pixels[u * side + v] + c) : load(pixels[u * side + v] + c, n); },
      [&](int i, int j, vfloat v) { store(to + (i * points + j) * step, v); });
}

template <class T> struct Images {
  const T* data;  // [batch, height, width, channels]
  int64_t height, width, channels;
  const T* zero;  // a pixel of zeros

  // to[position step + c] = the transform of the square of pixels that begins at (i, j), with zeros up to a multiple of the lanes.
  template <int side> void transform(float* to, int64_t step, int64_t image, int64_t i, int64_t j) const {
    const T* pixels[side * side];
    for (int u = 0; u < side; u++)
      for (int v = 0; v < side; v++) {
        const int64_t y = i + u, x = j + v;
        const bool inside = y >= 0 && y < height && x >= 0 && x < width;
        pixels[u * side + v] = inside ? data + ((image * height + y) * width + x) * channels : zero;
      }
    int64_t c = 0;
    for (; c + lanes <= channels; c += lanes) transform_pixels<side, true>(to + c, step, pixels, c, lanes, outputs * channels);
    if (c < channels) transform_pixels<side, false>(to + c, step, pixels, c, int(channels - c), outputs * channels);
  }
};

}  // namespace turl::winograd
