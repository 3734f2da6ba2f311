// The gradient of a convolution with a window of 3x3 and stride 1 with respect to the weight, computed in float32 on images of
// float32 or bfloat16, by Winograd's transforms (winograd.h): dw = Gt (sum over tiles of (A dy) * (Bt x)).
//
// The 36 sums are matrices [out channels, channels]. Where they are small, each thread takes a part of the tiles, some at a time, through
// transform and product in its own caches, and the sums of the parts are added in order (part_by_part). Otherwise all threads transform as
// many tiles as stay in the last-level cache; then each forms some of the products [out channels, tiles] x [tiles, channels] and adds them
// to the sums so far (step_by_step). Parts and chunks depend on sizes only, so every sum has one order.
#include <vector>
#include "cpu/conv_fast.h"
#include "cpu/parallel.h"
#include "cpu/tile_product.h"
#include "cpu/winograd.h"
#include "cpu/winograd_tiles.h"

namespace turl {

using namespace winograd;

namespace {

// The transformed tiles of the input and of the result's gradient, and the sums of their products. A row holds both for one tile, so that a
// product reads one run of memory.
template <class T> struct Steps {
  const Convolution& s;
  Tiles tiles;
  std::vector<T> zero;
  Images<T> image, gradient;
  int64_t gradient_at, row;   // floats from the beginning of a row to the gradient, and to the next row
  int64_t sum_row, sum_step;  // sums [position][out channel][channel]

  Steps(const T* dy, const T* x, const Convolution& s)
      : s(s), tiles{s.batch, s.out_height(), s.out_width()}, zero(size_t(std::max(s.channels, s.out_channels)), T(0.0f)),
        image{x, s.height, s.width, s.channels, zero.data()},
        gradient{dy, s.out_height(), s.out_width(), s.out_channels, zero.data()}, gradient_at(round_up(s.channels, 16)),
        row(odd_lines(gradient_at + s.out_channels)), sum_row(odd_lines(s.channels)), sum_step(odd_lines(s.out_channels * sum_row)) {}

  // Transforms tiles [begin, end) to their rows of `to` [position][row], with positions `step` floats apart.
  void transform(float* to, int64_t step, const TileRows& rows, int64_t begin, int64_t end) const {
    for (int64_t t = begin; t < end; t++) {
      const auto& [place, at] = rows[t];
      image.template transform<points>(to + at * row, step, place, -s.padding);
      gradient.template transform<outputs>(to + at * row + gradient_at, step, place, 0);
    }
  }
  // sums (+)= the products of one position over `count` rows, for out channels [o, end); meanwhile `next` is prefetched.
  void multiply(float* sums, const float* rows, int64_t count, int64_t o, int64_t end, bool add, NextLines next = {}) const {
    const TileProduct<float> product{sums + o * sum_row, sum_row, rows + gradient_at + o, 1, row, rows, row, count, add};
    product.run(end - o, s.channels, next);
  }
};

constexpr int64_t parts = 16;

// Each thread takes parts of the tiles through both steps in its own memory.
template <class T> float* part_by_part(Context& context, const Steps<T>& steps) {
  constexpr int64_t at_once = 48;  // tiles
  const int64_t tiles = steps.tiles.count(), step = odd_lines(at_once * steps.row), size = positions * steps.sum_step;
  float* sums = static_cast<float*>(context.scratch(size_t(parts * size) * 4));
  parallel_chunks(context, parts, [&](int64_t part) {
    float* rows = thread_memory<Slot::operand>(positions * step);
    const int64_t begin = tiles * part / parts, end = tiles * (part + 1) / parts;
    for (int64_t at = begin; at < end; at += at_once) {
      const TileRows tile_rows(steps.tiles, at, std::min(end, at + at_once));
      steps.transform(rows, step, tile_rows, at, std::min(end, at + at_once));
      for (int64_t position = 0; position < positions; position++) {
        const auto [from, to] = tile_rows.of(position);
        steps.multiply(sums + part * size + position * steps.sum_step, rows + position * step + from * steps.row, to - from, 0,
                       steps.s.out_channels, at > begin);
      }
    }
  });
  add_chunks(context, sums, parts, size);
  return sums;
}

// All threads transform as many tiles as the last-level cache holds, then multiply them. The rows of a product are prefetched during the
// product before it.
template <class T> float* step_by_step(Context& context, const Steps<T>& steps) {
  constexpr int64_t cache = 5 << 20;  // floats of a chunk: 20 MiB
  const int64_t tiles = steps.tiles.count(), row = steps.row;
  const int64_t most = std::max<int64_t>(cache / (positions * row), 48);
  const int64_t at_once = ceil_div(tiles, ceil_div(tiles, most)), step = odd_lines(at_once * row);
  float* transformed = static_cast<float*>(context.scratch(size_t(positions * (step + steps.sum_step)) * 4));
  float* sums = transformed + positions * step;

  // Out channels and tiles of one product, and positions of a chunk.
  constexpr int64_t block = 16 * tile_rows, depth = 192, together = 3;
  const int64_t out_channels = steps.s.out_channels, blocks = ceil_div(out_channels, block);
  for (int64_t first = 0; first < tiles; first += at_once) {
    const int64_t count = std::min(at_once, tiles - first);
    const TileRows tile_rows(steps.tiles, first, first + count);
    parallel_for(context, count, 4, [&](int64_t begin, int64_t end) {
      steps.transform(transformed, step, tile_rows, first + begin, first + end);
    });
    parallel_chunks(context, positions / together * blocks, [&](int64_t chunk) {
      const int64_t o = chunk % blocks * block, begin = chunk / blocks * together, end = begin + together;
      for (int64_t position = begin; position < end; position++) {
        const auto [from, to] = tile_rows.of(position);
        for (int64_t t = from; t == from || t < to; t += depth) {  // without rows the sums become 0
          const float* rows = transformed + position * step + t * row;
          const int64_t n = std::min(depth, to - t);
          const float* next = t + n < to ? rows + n * row : transformed + (position + 1) * step;
          const bool last = t + n == to && position + 1 == end;
          steps.multiply(sums + position * steps.sum_step, rows, n, o, std::min(o + block, out_channels), first > 0 || t > from,
                         last ? NextLines{} : NextLines::of(next, n * row));
        }
      }
    });
  }
  return sums;
}

}  // namespace

template <class T>
void winograd_conv_backward_weight(Context& context, float* dweight, const T* dy, const T* x, const Convolution& s) {
  const Steps<T> steps(dy, x, s);
  // Sums of at most 768 KiB, and so many tiles that adding up the sums of the parts takes little time in comparison.
  const bool few_sums = positions * steps.sum_step <= 192 << 10 && steps.tiles.count() >= 150 * parts;
  const float* sums = (few_sums ? part_by_part<T> : step_by_step<T>)(context, steps);
  parallel_for(context, s.out_channels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; o++)
      for (int64_t c = 0; c < s.channels; c += lanes) {
        const int n = int(std::min<int64_t>(lanes, s.channels - c));
        in_two_dimensions<points, window>(
            window_gradient_line,
            [&](int i, int j) { return load(sums + (i * points + j) * steps.sum_step + o * steps.sum_row + c); },
            [&](int u, int v, vfloat w) { store(dweight + (o * s.taps() + u * window + v) * s.channels + c, w, n); });
      }
  });
}

template void winograd_conv_backward_weight(Context&, float*, const float*, const float*, const Convolution&);
template void winograd_conv_backward_weight(Context&, float*, const bfloat16*, const bfloat16*, const Convolution&);

}  // namespace turl
