// The tiles of Winograd's convolution (winograd.h): a result of height x width pixels is cut into tiles of 4x4, of which the last of a line
// or column may reach beyond it. Each depends on 6x6 input pixels, zero outside of the image. A tile that reaches beyond needs products at
// fewer positions: for r wanted outputs of a dimension, at r + 2 points.
#pragma once
#include <vector>
#include "cpu/winograd.h"

namespace turl::winograd {

// n floats, rounded up to an odd number of cache lines: values that lie this far apart (the rows of a matrix, the positions of a tile) fall
// into different sets of the first-level cache.
inline int64_t odd_lines(int64_t n) { return ((n + 15) / 16 | 1) * 16; }

struct Tiles {
  int64_t batch, height, width;

  int64_t down() const { return (height + outputs - 1) / outputs; }
  int64_t across() const { return (width + outputs - 1) / outputs; }
  int64_t count() const { return batch * down() * across(); }
  // Products for one pair of an input and an output channel.
  int64_t products() const { return batch * (height + 2 * down()) * (width + 2 * across()); }

  struct Place {
    int64_t image, i, j;  // of a tile's first result pixel
    int rows, columns;    // pixels that lie in the image
  };
  Place at(int64_t tile) const {
    const int64_t line = tile / across(), i = line % down() * outputs, j = tile % across() * outputs;
    return {line / down(), i, j, int(std::min<int64_t>(outputs, height - i)), int(std::min<int64_t>(outputs, width - j))};
  }
};

// Tiles [first, end), and the row of each in the matrices that are multiplied. The order is: narrow tiles (the last ones of a line, cut on the
// right), whole ones, low ones (cut at the bottom), those that are both. So the tiles that need the product at a position are neighbours.
class TileRows {
  struct Tile {
    Tiles::Place place;
    int64_t row;
  };
  int64_t first;
  std::vector<Tile> tiles;
  int64_t ends[4] = {};  // where the rows of each of the four kinds end
  int low, narrow;       // pixel rows of a low tile, pixel columns of a narrow one

  static int kind(const Tiles::Place& place) {
    if (place.rows < outputs) return place.columns < outputs ? 3 : 2;
    return place.columns < outputs ? 0 : 1;
  }

 public:
  TileRows(const Tiles& all, int64_t first, int64_t end)
      : first(first), low(int((all.height - 1) % outputs) + 1), narrow(int((all.width - 1) % outputs) + 1) {
    tiles.reserve(size_t(end - first));
    for (int64_t t = first; t < end; t++) {
      tiles.push_back({all.at(t), 0});
      ends[kind(tiles.back().place)]++;
    }
    int64_t next[4] = {};
    for (int k = 1; k < 4; k++) next[k] = ends[k - 1], ends[k] += ends[k - 1];
    for (Tile& tile : tiles) tile.row = next[kind(tile.place)]++;
  }
  int64_t count() const { return int64_t(tiles.size()); }
  const Tile& operator[](int64_t tile) const { return tiles[size_t(tile - first)]; }

  // The rows that need the product at a position.
  struct Range {
    int64_t begin, end;
  };
  Range of(int64_t position) const {
    const bool low_too = needed(int(position / points), low), narrow_too = needed(int(position % points), narrow);
    return {narrow_too ? 0 : ends[0], low_too ? ends[narrow_too ? 3 : 2] : ends[1]};
  }
};

// Transforms vectors of channels, from c on, of side x side pixels to 36 positions: 6x6 pixels as an input, 4x4 pixels as the gradient of a
// result. Meanwhile what is new in the next tile of the line, `next` elements further, is prefetched. For the input of a tile that reaches
// beyond the image, `wanted` is the tile's place.
template <int side, bool whole, class T, class... Wanted>
__attribute__((noinline)) void transform_pixels(float* to, int64_t step, const T* const* pixels, int64_t c, int n, int64_t next,
                                                const Wanted&... wanted) {
  for (int u = 0; u < side; u++)
    for (int v = side - outputs; v < side; v++) __builtin_prefetch(pixels[u * side + v] + c + next);
  const auto read = [&](int u, int v) {
    return whole ? load(pixels[u * side + v] + c) : load(pixels[u * side + v] + c, n);
  };
  const auto write = [&](int i, int j, vfloat v) { store(to + (i * points + j) * step, v); };
  if constexpr (sizeof...(wanted) > 0) {
    const auto line = [](int outputs) {
      return [outputs](vfloat* out, vfloat* in) { choose_free_inputs(in, outputs), input_line(out, in); };
    };
    in_two_dimensions<side, points>(line(wanted.rows)..., line(wanted.columns)..., read, write);
  } else in_two_dimensions<side, points>(side == points ? input_line : gradient_line, read, write);
}

template <class T> struct Images {
  const T* data;  // [batch, height, width, channels]
  int64_t height, width, channels;
  const T* zero;  // a pixel of zeros

  // to[position step + c] = the transform of a tile's square of pixels, with zeros up to a multiple of the lanes. The square of the first tile
  // begins at pixel (offset, offset).
  template <int side> void transform(float* to, int64_t step, const Tiles::Place& tile, int64_t offset) const {
    const T* pixels[side * side];
    for (int u = 0; u < side; u++)
      for (int v = 0; v < side; v++) {
        const int64_t y = tile.i + offset + u, x = tile.j + offset + v;
        const bool inside = y >= 0 && y < height && x >= 0 && x < width;
        pixels[u * side + v] = inside ? data + ((tile.image * height + y) * width + x) * channels : zero;
      }
    const auto transform_all = [&](const auto&... wanted) {
      int64_t c = 0;
      for (; c + lanes <= channels; c += lanes)
        transform_pixels<side, true>(to + c, step, pixels, c, lanes, outputs * channels, wanted...);
      if (c < channels) transform_pixels<side, false>(to + c, step, pixels, c, int(channels - c), outputs * channels, wanted...);
    };
    if (side == outputs || (tile.rows == outputs && tile.columns == outputs)) transform_all();
    else transform_all(tile);
  }
};

}  // namespace turl::winograd
