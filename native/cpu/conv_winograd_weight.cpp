// The gradient of a convolution with a window of 3x3 and stride 1 with respect to the weight, computed in float32 on images of
// float32 or bfloat16, by Winograd's transforms (winograd.h): dw = Gt (sum over tiles of (A dy) * (Bt x)).
//
// As many tiles as stay in the last-level cache are transformed by all threads; then each thread forms some of
// the 36 products [out channels, tiles] x [tiles, channels] and adds them to those of the chunks before. Chunks depend on sizes
// only, so every sum has one order.
#include <vector>
#include "cpu/conv_fast.h"
#include "cpu/parallel.h"
#include "cpu/tile_product.h"
#include "cpu/winograd.h"
#include "cpu/winograd_tiles.h"

namespace turl {

using namespace winograd;

template <class T>
void winograd_conv_backward_weight(Context& context, float* dweight, const T* dy, const T* x, const Convolution& s) {
  const Tiles tiles{s.batch, s.out_height(), s.out_width()};
  const std::vector<T> zero(size_t(std::max(s.channels, s.out_channels)), T(0.0f));
  const Images<T> image{x, s.height, s.width, s.channels, zero.data()};
  const Images<T> gradient{dy, s.out_height(), s.out_width(), s.out_channels, zero.data()};

  // A row holds a tile's input and its gradient, so that what a product reads is one run of memory, fetched during the one before.
  const int64_t gradient_at = round_up(s.channels, 16), row = odd_lines(gradient_at + s.out_channels);
  constexpr int64_t cache = 5 << 20;  // floats of a chunk: 20 MiB
  const int64_t most = std::max<int64_t>(cache / (positions * row), 48);
  const int64_t at_once = divide_up(tiles.count(), divide_up(tiles.count(), most));
  const int64_t step = odd_lines(at_once * row);
  const int64_t sum_row = odd_lines(s.channels), sum_step = odd_lines(s.out_channels * sum_row);
  float* transformed = static_cast<float*>(context.scratch(size_t(positions * (step + sum_step)) * 4));
  float* sums = transformed + positions * step;

  // Out channels and tiles of a product, positions of a thread.
  constexpr int64_t block = 16 * tile_rows, depth = 192, together = 3;
  const int64_t blocks = divide_up(s.out_channels, block);
  for (int64_t first = 0; first < tiles.count(); first += at_once) {
    const int64_t count = std::min(at_once, tiles.count() - first);
    parallel_for(context, count, 4, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; t++) {
        const auto [b, i, j] = tiles.at(first + t);
        image.template transform<points>(transformed + t * row, step, b, i - s.padding, j - s.padding);
        gradient.template transform<outputs>(transformed + t * row + gradient_at, step, b, i, j);
      }
    });
    parallel_chunks(context, positions / together * blocks, [&](int64_t chunk) {
      const int64_t o = chunk % blocks * block, begin = chunk / blocks * together, end = begin + together;
      for (int64_t position = begin; position < end; position++)
        for (int64_t t = 0; t < count; t += depth) {
          const float* right = transformed + position * step + t * row;
          const int64_t rows = std::min(depth, count - t);
          const float* next = t + rows < count ? right + rows * row : transformed + (position + 1) * step;
          const bool last = t + rows == count && position + 1 == end;
          const TileProduct<float> product{sums + position * sum_step + o * sum_row, sum_row, right + gradient_at + o, 1, row, right,
                                           row, rows, first + t > 0};
          product.run(std::min(block, s.out_channels - o), s.channels, last ? NextLines{} : NextLines::of(next, rows * row));
        }
    });
  }

  parallel_for(context, s.out_channels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; o++)
      for (int64_t c = 0; c < s.channels; c += lanes) {
        const int n = int(std::min<int64_t>(lanes, s.channels - c));
        transform_window_gradient(sums + o * sum_row + c, sum_step, [&](int u, int v, vfloat w) {
          store(dweight + (o * s.taps() + u * window + v) * s.channels + c, w, n);
        });
      }
  });
}

template void winograd_conv_backward_weight(Context&, float*, const float*, const float*, const Convolution&);
template void winograd_conv_backward_weight(Context&, float*, const bfloat16*, const bfloat16*, const Convolution&);

}  // namespace turl
