// Forward convolution with a window of 3x3 and stride 1, and its gradient with respect to the image, float32, by Winograd's
// F(4x4, 3x3) (winograd.h). The gradient is the same sum with the window turned by 180 degrees and the channels exchanged.
//
// The weights are transformed first. Then each chunk of tiles goes through three steps in a thread's own memory, near the caches:
// the input tiles of 6x6 pixels are transformed, for each of the 36 positions one matrix product [tiles, depth] x [depth, width]
// runs, and its results are transformed back. Each result is one sum over depth in order, whatever the chunk.
#include <vector>
#include "cpu/conv_fast.h"
#include "cpu/parallel.h"
#include "cpu/tile_product.h"
#include "cpu/winograd.h"
#include "cpu/winograd_tiles.h"

namespace turl {
namespace {

using namespace winograd;

// What is convolved: in [batch, in_h, in_w, depth] to out [batch, out_h, out_w, width], where the window of the result pixel
// (i, j) begins at the input pixel (i + offset, j + offset).
struct Pass {
  int64_t batch, in_h, in_w, out_h, out_w, depth, width, offset;
  // The weight of (tap, input channel d, output channel j) is weight[tap tap_step + d d_step + j j_step].
  int64_t tap_step, d_step, j_step;
};

// panels [column panel][position][depth][tile_columns]
void transform_weight(Context& context, float* panels, const float* weight, const Pass& s) {
  constexpr int64_t taps = window * window, block = 16;  // input channels at a time: they share a cache line
  const int64_t blocks = divide_up(s.depth, block);
  parallel_for(context, divide_up(s.width, tile_columns) * blocks, 4, [&](int64_t begin, int64_t end) {
    float gathered[taps][block][tile_columns] = {};
    for (int64_t item = begin; item < end; item++) {
      const int64_t panel = item / blocks, first = panel * tile_columns, d0 = item % blocks * block;
      const int64_t columns = std::min<int64_t>(tile_columns, s.width - first), count = std::min(block, s.depth - d0);
      const float* in = weight + d0 * s.d_step + first * s.j_step;
      for (int64_t t = 0; t < taps; t++)
        for (int64_t d = 0; d < count; d++) {
          for (int64_t j = 0; j < columns; j++) gathered[t][d][j] = in[t * s.tap_step + d * s.d_step + j * s.j_step];
          for (int64_t j = columns; j < tile_columns; j++) gathered[t][d][j] = 0;
        }
      float* out = panels + (panel * positions * s.depth + d0) * tile_columns;
      for (int64_t d = 0; d < count; d++)
        for (int64_t j = 0; j < tile_columns; j += lanes)
          transform_window(out + d * tile_columns + j, s.depth * tile_columns,
                           [&](int u, int v) { return load(&gathered[u * window + v][d][j]); });
    }
  });
}

__attribute__((noinline)) void write_pixels(float* out, int64_t line, int64_t pixel, const float* products, int64_t step) {
  transform_output(products, step, [&](int i, int j, vfloat y) { store(out + i * line + j * pixel, y); });
}

// Writes a result tile from products [position][step]. Only rows x columns pixels of it lie in the image.
void write_tile(float* out, const float* products, int64_t step, int64_t rows, int64_t columns, const Pass& s) {
  const int64_t line = s.out_w * s.width;
  int64_t c = 0;
  if (rows == outputs && columns == outputs)
    for (; c + lanes <= s.width; c += lanes) write_pixels(out + c, line, s.width, products + c, step);
  for (; c < s.width; c += lanes) {
    float tile[outputs * outputs * lanes];
    write_pixels(tile, outputs * lanes, lanes, products + c, step);
    const size_t bytes = size_t(std::min<int64_t>(lanes, s.width - c)) * 4;
    for (int64_t i = 0; i < rows; i++)
      for (int64_t j = 0; j < columns; j++) memcpy(out + i * line + j * s.width + c, tile + (i * outputs + j) * lanes, bytes);
  }
}

// Tiles of a chunk, a multiple of tile_rows: enough to be worth reading the weights, and as many chunks as threads.
int64_t tiles_at_once(const Context& context, int64_t tiles) {
  const int64_t chunks = round_up(divide_up(tiles, 48), context.threads);
  return round_up(divide_up(tiles, chunks), tile_rows);
}

void convolve(Context& context, float* out, const float* in, const float* weight, const Pass& s) {
  const Tiles tiles{s.batch, s.out_h, s.out_w};
  const int64_t panels = divide_up(s.width, tile_columns), panel_size = positions * s.depth * tile_columns;
  float* packed = static_cast<float*>(context.scratch(size_t(panels * panel_size) * 4));
  transform_weight(context, packed, weight, s);

  const std::vector<float> zero(size_t(s.depth), 0.0f);
  const Images images{in, s.in_h, s.in_w, s.depth, zero.data()};
  const int64_t in_row = odd_lines(s.depth), out_row = odd_lines(s.width);
  const int64_t at_once = tiles_at_once(context, tiles.count());
  const int64_t in_step = odd_lines(at_once * in_row), out_step = odd_lines(at_once * out_row);
  parallel_for(context, tiles.count(), at_once, [&](int64_t begin, int64_t end) {
    float* transformed = thread_memory<0>(positions * in_step);
    float* products = thread_memory<1>(positions * out_step);
    for (int64_t t = begin; t < end; t++) {
      const auto [b, i, j] = tiles.at(t);
      images.transform<points>(transformed + (t - begin) * in_row, in_step, b, i + s.offset, j + s.offset);
    }
    for (int64_t position = 0; position < positions; position++)
      for (int64_t panel = 0; panel < panels; panel++) {
        const float* b = packed + panel * panel_size + position * s.depth * tile_columns;
        const int64_t first = panel * tile_columns, columns = std::min<int64_t>(tile_columns, s.width - first);
        const TileProduct<float> product{products + position * out_step + first, out_row, transformed + position * in_step,
                                         in_row, 1, b, tile_columns, s.depth, false};
        product.run(end - begin, columns);
      }
    for (int64_t t = begin; t < end; t++) {
      const auto [b, i, j] = tiles.at(t);
      write_tile(out + ((b * s.out_h + i) * s.out_w + j) * s.width, products + (t - begin) * out_row, out_step,
                 std::min<int64_t>(outputs, s.out_h - i), std::min<int64_t>(outputs, s.out_w - j), s);
    }
  });
}

}  // namespace

// Where the implicit GEMM takes longer. Time is counted in multiply-adds at its rate, fitted to measurements: a tile's 36 products
// run at 3/4 of that rate, its transforms go with the channels, that of the weights with their number.
bool winograd_suits(const Convolution& s) {
  if (s.kernel_h != window || s.kernel_w != window || s.stride != 1 || s.groups != 1) return false;
  const Tiles tiles{s.batch, s.out_height(), s.out_width()};
  const double c = double(s.channels), o = double(s.out_channels), pixels = double(s.batch * tiles.height * tiles.width);
  return double(tiles.count()) * (48 * c * o + 520 * (c + o)) + 800 * c * o < 9 * pixels * c * o;
}

void winograd_conv_forward(Context& context, float* y, const float* x, const float* weight, const Convolution& s) {
  constexpr int64_t taps = window * window;
  convolve(context, y, x, weight,
           {s.batch, s.height, s.width, s.out_height(), s.out_width(), s.channels, s.out_channels, -s.padding, s.channels, 1,
            taps * s.channels});
}

void winograd_conv_backward_data(Context& context, float* dx, const float* dy, const float* weight, const Convolution& s) {
  constexpr int64_t taps = window * window;
  convolve(context, dx, dy, weight + (taps - 1) * s.channels,
           {s.batch, s.out_height(), s.out_width(), s.height, s.width, s.out_channels, s.channels, s.padding - (window - 1),
            -s.channels, taps * s.channels, 1});
}

}  // namespace turl
