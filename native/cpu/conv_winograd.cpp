// Forward convolution with a window of 3x3 and stride 1, and its gradient with respect to the image, computed in float32 on
// images of float32 or bfloat16, by Winograd's F(4x4, 3x3) (winograd.h). The gradient is the same sum with the window rotated by
// 180 degrees and input and output channels exchanged.
//
// The weights are transformed first. Then the tiles go through three steps: the input's 6x6 pixels are transformed, for each of
// the 36 positions one matrix product [tiles, depth] x [depth, width] runs, and its results are transformed back. Each result
// is one sum over depth in order, whatever the chunk. Tiles that reach beyond the image take part in fewer products.
#include <vector>
#include "cpu/channels.h"
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

// panels [column panel][position][depth][tile_columns], written with streaming stores if `streaming`.
template <bool streaming> void transform_weight(Context& context, float* panels, const float* weight, const Pass& s) {
  constexpr int64_t taps = window * window, block = 16;  // input channels at a time: they share a cache line
  const int64_t blocks = ceil_div(s.depth, block);
  parallel_for(context, ceil_div(s.width, tile_columns) * blocks, 4, [&](int64_t begin, int64_t end) {
    float gathered[taps][block][tile_columns] = {};
    for (int64_t item = begin; item < end; item++) {
      const int64_t panel = item / blocks, first = panel * tile_columns, d0 = item % blocks * block;
      const int64_t columns = std::min<int64_t>(tile_columns, s.width - first), count = std::min(block, s.depth - d0);
      const float* in = weight + d0 * s.d_step + first * s.j_step;
      if (columns < tile_columns) std::fill_n(&gathered[0][0][0], taps * block * tile_columns, 0.0f);
      // Whole cache lines are read, and those of the next item are prefetched.
      if (s.d_step == 1)
        for (int64_t j = 0; j < columns; j++)
          for (int64_t t = 0; t < taps; t++) {
            const float* line = in + t * s.tap_step + j * s.j_step;
            __builtin_prefetch(line + block);
            for (int64_t d = 0; d < count; d++) gathered[t][d][j] = line[d];
          }
      else
        for (int64_t d = 0; d < count; d++)
          for (int64_t t = 0; t < taps; t++) {
            const float* line = in + t * s.tap_step + d * s.d_step;
            __builtin_prefetch(line + block * s.d_step), __builtin_prefetch(line + block * s.d_step + 16);
            for (int64_t j = 0; j < columns; j++) gathered[t][d][j] = line[j * s.j_step];
          }
      float* out = panels + (panel * positions * s.depth + d0) * tile_columns;
      for (int64_t d = 0; d < count; d++)
        for (int64_t j = 0; j < tile_columns; j += lanes)
          in_two_dimensions<window, points>(
              window_line, [&](int u, int v) { return load(&gathered[u * window + v][d][j]); },
              [&](int u, int v, vfloat w) {
                float* to = out + ((u * points + v) * s.depth + d) * tile_columns + j;
                streaming ? store_streaming(to, w) : store(to, w);
              });
    }
    if (streaming) end_streaming();
  });
}

template <class Write> inline void transform_output(const float* products, int64_t step, Write&& write) {
  in_two_dimensions<points, outputs>(
      output_line, [&](int i, int j) { return load(products + (i * points + j) * step); }, write);
}
template <bool streaming, class T>
__attribute__((noinline)) void write_pixels(T* out, int64_t line, int64_t pixel, const float* products, int64_t step) {
  transform_output(products, step, [&](int i, int j, vfloat y) {
    put_rounded<streaming>(out + i * line + j * pixel, y);
  });
}
// The same, and the pixels are summed for the columns from c on; `fresh` as for RowSums.
template <bool streaming, class T>
__attribute__((noinline)) void write_summed_pixels(T* out, int64_t line, int64_t pixel, const float* products, int64_t step,
                                                   const RowSums& sums, int64_t c, bool fresh) {
  RowSums::Accumulator<1> row_sums(sums, c, fresh);
  transform_output(products, step, [&](int i, int j, vfloat y) {
    const vfloat stored = put_rounded<streaming>(out + i * line + j * pixel, y);
    if (i == 0 && j == 0) row_sums.start(0, stored);
    row_sums.add(0, stored);
  });
  row_sums.end();
}

// Writes a result tile from products [position][step], of which only rows x columns pixels lie in the image.
template <class T>
void write_tile(T* out, const float* products, int64_t step, int64_t rows, int64_t columns, bool streaming, const RowSums& sums, bool fresh,
                const Pass& s) {
  const int64_t line = s.out_w * s.width;
  int64_t c = 0;
  if (rows == outputs && columns == outputs)
    for (; c + lanes <= s.width; c += lanes) {
      if (!sums.origin) (streaming ? write_pixels<true, T> : write_pixels<false, T>)(out + c, line, s.width, products + c, step);
      else
        (streaming ? write_summed_pixels<true, T> : write_summed_pixels<false, T>)(out + c, line, s.width, products + c, step, sums, c, fresh);
    }
  for (; c < s.width; c += lanes) {
    T tile[outputs * outputs * lanes];
    write_pixels<false>(tile, outputs * lanes, lanes, products + c, step);
    if (sums.origin) {
      RowSums::Accumulator<1> row_sums(sums, c, fresh);
      row_sums.start(0, load(tile));
      for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) row_sums.add(0, load(tile + (i * outputs + j) * lanes));
      row_sums.end();
    }
    const size_t bytes = size_t(std::min<int64_t>(lanes, s.width - c)) * sizeof(T);
    for (int64_t i = 0; i < rows; i++)
      for (int64_t j = 0; j < columns; j++) memcpy(out + i * line + j * s.width + c, tile + (i * outputs + j) * lanes, bytes);
  }
}

// The three steps for some tiles, whose order is `rows`: transformed [position][row][depth], products [position][row][width].
template <class T> struct Steps {
  const Pass& s;
  const Tiles& tiles;
  const Images<T>& images;
  const float* packed;
  T* out;
  ChannelSums* sums;
  bool streaming;
  int64_t in_row, out_row, in_step, out_step, panels, panel_size;
  float *transformed = nullptr, *products = nullptr;
  const TileRows* rows = nullptr;

  // Memory for at most `most` tiles.
  Steps(const Pass& s, const Tiles& tiles, const Images<T>& images, const float* packed, T* out, ChannelSums* sums, int64_t most)
      : s(s), tiles(tiles), images(images), packed(packed), out(out), sums(sums),
        streaming(sizeof(T) == 4 && worth_streaming(out, s.batch * s.out_h * s.out_w, s.width)), in_row(odd_lines(s.depth)),
        out_row(odd_lines(s.width)), in_step(odd_lines(most * in_row)), out_step(odd_lines(most * out_row)),
        panels(ceil_div(s.width, tile_columns)), panel_size(positions * s.depth * tile_columns) {}

  const float* panel(int64_t position, int64_t index) const {
    return packed + index * panel_size + position * s.depth * tile_columns;
  }

  void transform(int64_t begin, int64_t end) const {
    for (int64_t t = begin; t < end; t++) {
      const auto& [place, row] = (*rows)[t];
      images.template transform<points>(transformed + row * in_row, in_step, place, s.offset);
    }
  }
  // The products of a position; a panel is fetched while the one before it is used.
  void multiply(int64_t position) const {
    const auto [begin, end] = rows->of(position);
    float* const out = products + position * out_step;
    for (int64_t row = 0; row < begin; row++) std::fill_n(out + row * out_row, s.width, 0.0f);
    for (int64_t row = end; row < rows->count(); row++) std::fill_n(out + row * out_row, s.width, 0.0f);
    for (int64_t index = 0; index < panels; index++) {
      const int64_t column = index * tile_columns;
      const float* next = index + 1 < panels ? panel(position, index + 1) : panel((position + 1) % positions, 0);
      const TileProduct<float> product{out + begin * out_row + column, out_row, transformed + position * in_step + begin * in_row,
                                       in_row, 1, panel(position, index), tile_columns, s.depth, false};
      product.run(end - begin, std::min<int64_t>(tile_columns, s.width - column), NextLines::of(next, s.depth * tile_columns));
    }
  }
  // Writes tiles [begin, end), which are chunk number `chunk` for the sums of channels.
  void write(int64_t begin, int64_t end, int64_t chunk) const {
    const RowSums chunk_sums = sums ? ChannelSums::rows(round_up(s.width, lanes)) : RowSums{};
    int64_t pixels = 0;
    for (int64_t t = begin; t < end; t++) {
      const auto& [at, row] = (*rows)[t];
      write_tile(out + ((at.image * s.out_h + at.i) * s.out_w + at.j) * s.width, products + row * out_row, out_step, at.rows, at.columns,
                 streaming, chunk_sums, t == begin, s);
      pixels += at.rows * at.columns;
    }
    if (sums) sums->leave(chunk, 0, s.width, chunk_sums, 0, pixels);
  }
};

// For weights that fit the caches: each thread takes chunks of `at_once` tiles, a multiple of tile_rows, through the three steps in its own
// memory.
template <class T> void chunk_by_chunk(Context& context, Steps<T> shared, int64_t at_once) {
  if (shared.sums) shared.sums->begin(ceil_div(shared.tiles.count(), tile_rows));
  parallel_for(context, shared.tiles.count(), at_once, [&](int64_t begin, int64_t end) {
    Steps<T> steps = shared;
    steps.transformed = thread_memory<Slot::operand>(positions * steps.in_step);
    steps.products = thread_memory<Slot::other_operand>(positions * steps.out_step);
    const TileRows rows(shared.tiles, begin, end);
    steps.rows = &rows;
    steps.transform(begin, end);
    for (int64_t position = 0; position < positions; position++) steps.multiply(position);
    // The sums' chunks do not depend on the number of threads, as at_once does.
    for (int64_t t = begin; t < end; t += tile_rows) steps.write(t, std::min<int64_t>(end, t + tile_rows), t / tile_rows);
    if (steps.streaming) end_streaming();
  });
}

// For weights larger than the caches: as many tiles as the last-level cache holds go through each step together, so that weights are read
// from memory once for all of them.
template <class T> void step_by_step(Context& context, Steps<T> steps, int64_t at_once) {
  steps.transformed = static_cast<float*>(context.scratch(size_t(positions * (steps.in_step + steps.out_step)) * 4));
  steps.products = steps.transformed + positions * steps.in_step;
  constexpr int64_t grain = 4;
  const int64_t chunks = ceil_div(at_once, grain);  // of the tiles of a round, of which the last has fewer
  const int64_t before = (steps.tiles.count() - 1) / at_once;
  if (steps.sums) steps.sums->begin(before * chunks + ceil_div(steps.tiles.count() - before * at_once, grain));
  for (int64_t first = 0; first < steps.tiles.count(); first += at_once) {
    const int64_t count = std::min(at_once, steps.tiles.count() - first);
    const TileRows rows(steps.tiles, first, first + count);
    steps.rows = &rows;
    parallel_for(context, count, grain, [&](int64_t begin, int64_t end) { steps.transform(first + begin, first + end); });
    parallel_chunks(context, positions, [&](int64_t position) { steps.multiply(position); });
    parallel_for(context, count, grain, [&](int64_t begin, int64_t end) {
      steps.write(first + begin, first + end, first / at_once * chunks + begin / grain);
      if (steps.streaming) end_streaming();
    });
  }
}

template <class T> void convolve(Context& context, T* out, ChannelSums* sums, const T* in, const float* weight, const Pass& s) {
  const Tiles tiles{s.batch, s.out_h, s.out_w};
  constexpr int64_t cache = 5 << 20;  // floats: 20 MiB
  const int64_t weights = ceil_div(s.width, tile_columns) * tile_columns * positions * s.depth;
  float* packed = static_cast<float*>(context.scratch(size_t(weights) * 4));
  const bool many = weights > cache;
  (many ? transform_weight<true> : transform_weight<false>)(context, packed, weight, s);
  const std::vector<T> zero(size_t(s.depth), T(0.0f));
  const Images<T> images{in, s.in_h, s.in_w, s.depth, zero.data()};

  if (many) {
    const int64_t most = std::max<int64_t>(cache / (positions * (s.depth + s.width)), 48);
    const int64_t at_once = ceil_div(tiles.count(), ceil_div(tiles.count(), most));
    return step_by_step(context, Steps<T>(s, tiles, images, packed, out, sums, at_once), at_once);
  }
  // Enough tiles to be worth reading the weights, and as many chunks as threads.
  const int64_t chunks = round_up(ceil_div(tiles.count(), 48), context.threads);
  const int64_t at_once = round_up(ceil_div(tiles.count(), chunks), tile_rows);
  chunk_by_chunk(context, Steps<T>(s, tiles, images, packed, out, sums, at_once), at_once);
}

}  // namespace

// Whether an implicit GEMM that runs at `speed` times the multiply-add rate takes longer. Times are in multiply-adds, with constants fitted
// to measurements: products of tiles run at 3/4 of the rate (4 / 3); the transforms of a tile take 300 for each channel, in or out; the
// transform of the weights takes 1600 for each pair of channels. The GEMM needs 9 products for each pixel and pair of channels.
bool winograd_suits(const Convolution& s, double speed) {
  if (s.kernel_h != window || s.kernel_w != window || s.stride != 1 || s.groups != 1) return false;
  const Tiles tiles{s.batch, s.out_height(), s.out_width()};
  const double c = double(s.channels), o = double(s.out_channels), pixels = double(s.batch * tiles.height * tiles.width);
  return double(tiles.products()) * 4 / 3 * c * o + double(tiles.count()) * 300 * (c + o) + 1600 * c * o < 9 * pixels * c * o / speed;
}

template <class T>
void winograd_conv_forward(Context& context, T* y, ChannelSums* sums, const T* x, const float* weight, const Convolution& s) {
  constexpr int64_t taps = window * window;
  convolve(context, y, sums, x, weight,
           {s.batch, s.height, s.width, s.out_height(), s.out_width(), s.channels, s.out_channels, -s.padding, s.channels, 1,
            taps * s.channels});
}

template <class T>
void winograd_conv_backward_data(Context& context, T* dx, const T* dy, const float* weight, const Convolution& s) {
  constexpr int64_t taps = window * window;
  convolve(context, dx, nullptr, dy, weight + (taps - 1) * s.channels,
           {s.batch, s.out_height(), s.out_width(), s.height, s.width, s.out_channels, s.channels, s.padding - (window - 1),
            -s.channels, taps * s.channels, 1});
}

template void winograd_conv_forward(Context&, float*, ChannelSums*, const float*, const float*, const Convolution&);
template void winograd_conv_forward(Context&, bfloat16*, ChannelSums*, const bfloat16*, const float*, const Convolution&);
template void winograd_conv_backward_data(Context&, float*, const float*, const float*, const Convolution&);
template void winograd_conv_backward_data(Context&, bfloat16*, const bfloat16*, const float*, const Convolution&);

}  // namespace turl
