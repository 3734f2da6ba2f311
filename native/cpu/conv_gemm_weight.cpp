// The convolution's gradient with respect to the weight, float32: dweight[o, u, v, c] = sum over pixels of
// dy[b, i, j, o] x[b, i stride + u - padding, j stride + v - padding, c].
//
// For each tap (u, v) this is a matrix of output channels (rows) x input channels (columns). A chunk computes a block of it for all taps,
// over a part of the lines of dy. It walks over its lines in bands that fit the caches: register tiles of up to tile_rows x tile_columns
// sums run over the pixels of a band, one tap after the other. x is copied to [line][pixel][tile_columns channels] with its padding, for
// one u at a time, so that each v is a shift within the copied lines. The chunk's channels of dy are copied too, so that pixels do not lie
// a power of two apart; with AVX-512 that does not pay for a single tap. Meanwhile what comes next is prefetched into the second-level
// cache.
//
// Where a pixel has few channels (the first layer), rows and columns change places: rows are the values of kernel_w pixels, which lie side
// by side in a copied line, columns are output channels, and each u is one tap.
//
// The number of parts depends on sizes only, and their sums are added in order.
#include "cpu/conv_fast.h"
#include "cpu/gemm_tile.h"
#include "cpu/parallel.h"

namespace turl {
namespace {

// How the work is divided. Rows, columns, blocks and panels are counted within one group.
struct Plan {
  bool few_channels;  // of a pixel: then rows are values of x, columns those of dy
  bool dy_copied;     // whether all channels of a chunk are copied from dy
  int64_t rows, columns, taps;
  int64_t row_blocks, rows_per_block;
  int64_t panels, panel_blocks, panels_per_block;  // panels of tile_columns columns
  int64_t line, step, band;                        // pixels of a copied line, and from one result pixel to the next; lines of a band
  int64_t parts, lines_per_part, part_size;        // parts of the batch * out_height lines of dy, and lines and floats of a part
};

Plan plan(const Convolution& s) {
  Plan p;
  const int64_t cg = s.group_channels(), og = s.group_out_channels();
  p.few_channels = cg < 8 && s.taps() > 1;
  p.dy_copied = !p.few_channels && (s.taps() > 1 || lanes < 16);
  p.rows = p.few_channels ? s.kernel_w * cg : og;
  p.columns = p.few_channels ? og : cg;
  p.taps = p.few_channels ? s.kernel_h : s.taps();
  p.row_blocks = ceil_div(p.rows, 128);
  p.rows_per_block = ceil_div(p.rows, p.row_blocks);
  p.panels = ceil_div(p.columns, tile_columns);
  p.panels_per_block = (p.taps == 1 ? 128 : 64) / tile_columns;
  p.panel_blocks = ceil_div(p.panels, p.panels_per_block);
  p.step = s.kernel_w == 1 && s.padding == 0 ? 1 : s.stride;  // 1: only the pixels that the one tap meets are copied
  p.line = (s.out_width() - 1) * p.step + s.kernel_w;
  p.band = std::max<int64_t>(1, 256 / p.line);
  const int64_t lines = s.batch * s.out_height(), blocks = s.groups * p.row_blocks * p.panel_blocks;
  const int64_t wanted = std::clamp<int64_t>(32 / blocks, 1, ceil_div(lines, p.band));
  p.lines_per_part = round_up(ceil_div(lines, wanted), p.band);
  p.parts = ceil_div(lines, p.lines_per_part);
  p.part_size = s.groups * p.panels * p.taps * p.rows * tile_columns;
  return p;
}

// packed [count][width]: the first n of the channels of `count` pixels that lie `step` apart, then zeros.
void pack_pixels(float* packed, int64_t width, const float* pixels, int64_t step, int64_t count, int64_t n) {
  if (n == width && n == step) memcpy(packed, pixels, size_t(count * n) * 4);
  else if (n == width && n == tile_columns)
    for (int64_t k = 0; k < count; k++) memcpy(packed + k * tile_columns, pixels + k * step, tile_columns * 4);
  else
    for (int64_t k = 0; k < count; k++, packed += width) {
      memcpy(packed, pixels + k * step, size_t(n) * 4);
      memset(packed + n, 0, size_t(width - n) * 4);
    }
}

// packed [count][line][width]: n channels of x from `first` on, of the lines that lines [begin, begin + count) of dy meet with row u of taps.
void pack_lines(float* packed, int64_t width, const float* x, int64_t begin, int64_t count, const Plan& p, int64_t u, int64_t first,
                int64_t n, const Convolution& s) {
  const int64_t ho = s.out_height(), left = std::min(p.line, s.padding), right = std::clamp(p.line, left, s.padding + s.width);
  for (int64_t i = begin; i < begin + count; i++, packed += p.line * width) {
    const int64_t y = i % ho * s.stride + u - s.padding;
    if (y < 0 || y >= s.height) {
      memset(packed, 0, size_t(p.line * width) * 4);
      continue;
    }
    const float* in = x + ((i / ho * s.height + y) * s.width + left - s.padding) * s.channels + first;
    memset(packed, 0, size_t(left * width) * 4);
    pack_pixels(packed + left * width, width, in, s.stride / p.step * s.channels, right - left, n);
    memset(packed + right * width, 0, size_t((p.line - right) * width) * 4);
  }
}

}  // namespace

void gemm_conv_backward_weight(Context& context, float* dweight, const float* dy, const float* x, const Convolution& s) {
  const int64_t ho = s.out_height(), wo = s.out_width(), lines = s.batch * ho;
  if (lines == 0) return std::fill(dweight, dweight + s.weight_size(), 0.0f);
  const int64_t cg = s.group_channels(), og = s.group_out_channels();
  const Plan p = plan(s);
  float* partial = static_cast<float*>(context.scratch(size_t(p.parts * p.part_size) * 4));

  const int64_t blocks = s.groups * p.row_blocks * p.panel_blocks;
  parallel_chunks(context, p.parts * blocks, [&](int64_t chunk) {
    const int64_t part = chunk / blocks, group = chunk % blocks / (p.row_blocks * p.panel_blocks);
    const int64_t first_row = chunk / p.panel_blocks % p.row_blocks * p.rows_per_block;
    const int64_t rows = std::min(p.rows_per_block, p.rows - first_row), tiles = ceil_div(rows, tile_rows);
    const int64_t first_panel = chunk % p.panel_blocks * p.panels_per_block;
    const int64_t last_panel = std::min(p.panels, first_panel + p.panels_per_block);
    const int64_t width = p.few_channels ? cg : tile_columns;  // values of a copied pixel of x
    float* packed_x = thread_memory<Slot::operand>(p.band * p.line * width);
    const int64_t dy_width = p.few_channels ? tile_columns : (ceil_div(rows, 16) | 1) * 16;  // an odd number of cache lines
    float* packed_dy = thread_memory<Slot::other_operand>(p.band * wo * dy_width);

    // Pixels of dy from `line` on, from a channel of this group on; and the pixels of x that these meet with tap (u, 0).
    const auto pixels_of_dy = [&](int64_t line, int64_t channel) {
      return Pixels{dy + line * wo * s.out_channels + group * og + channel, wo * s.out_channels, s.out_channels};
    };
    const auto pixels_of_x = [&](int64_t line, int64_t channel, int64_t u) {
      const int64_t y = line / ho * s.height + line % ho * s.stride + u - s.padding;
      return Pixels{x + (y * s.width - s.padding) * s.channels + group * cg + channel, s.stride * s.width * s.channels,
                    s.stride * s.channels};
    };

    const int64_t begin = part * p.lines_per_part, end = std::min(lines, begin + p.lines_per_part);
    for (int64_t at = begin; at < end; at += p.band) {
      const int64_t count = std::min(p.band, end - at);
      if (p.dy_copied)
        pack_pixels(packed_dy, dy_width, pixels_of_dy(at, first_row).data, s.out_channels, count * wo, rows);
      for (int64_t panel = first_panel; panel < last_panel; panel++) {
        const int64_t first = panel * tile_columns, n = std::min<int64_t>(tile_columns, p.columns - first);
        const bool whole = n == tile_columns;
        if (p.few_channels && !whole) pack_pixels(packed_dy, dy_width, pixels_of_dy(at, first).data, s.out_channels, count * wo, n);
        for (int64_t u = 0; u < s.kernel_h; u++) {
          pack_lines(packed_x, width, x, at, count, p, u, group * cg + (p.few_channels ? 0 : first), p.few_channels ? cg : n, s);
          const Pixels from_x = {packed_x, p.line * width, p.step * width};
          const Pixels from_dy = p.dy_copied || (p.few_channels && !whole) ? Pixels{packed_dy, wo * dy_width, dy_width}
                                                                           : pixels_of_dy(at, p.few_channels ? first : first_row);
          const Pixels a = p.few_channels ? from_x.from(first_row) : from_dy, b = p.few_channels ? from_dy : from_x;
          const Pixels next_b = p.few_channels           ? pixels_of_dy(at + p.band, first)
                                : u + 1 < s.kernel_h     ? pixels_of_x(at, first, u + 1)
                                : panel + 1 < last_panel ? pixels_of_x(at, first + tile_columns, 0)
                                                         : pixels_of_x(at + p.band, first_panel * tile_columns, 0);
          const Pixels next_a = pixels_of_dy(at + p.band, first_row);  // prefetched only once, by the first panel and tap
          const bool fetch_a = !p.few_channels && panel == first_panel && u == 0;
          for (int64_t t = 0; t < tiles; t++) {
            const int64_t row = rows * t / tiles, height = rows * (t + 1) / tiles - row;
            for (int64_t v = 0; v < (p.few_channels ? 1 : s.kernel_w); v++) {
              const int64_t tap = p.few_channels ? u : u * s.kernel_w + v;
              float* total = partial + part * p.part_size +
                             (((group * p.panels + panel) * p.taps + tap) * p.rows + first_row + row) * tile_columns;
              const Pixels left = a.from(row), right = b.from(v * width);
              outer_tile(height, total, left, right, fetch_a && v == 0 ? next_a.from(row) : left,
                         t == 0 ? next_b.from(v * s.channels) : right, count, wo, at > begin);
            }
          }
        }
      }
    }
  });

  add_chunks(context, partial, p.parts, p.part_size);
  parallel_for(context, s.out_channels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; o++)
      for (int64_t tap = 0; tap < p.taps; tap++) {
        const int64_t n = p.few_channels ? p.rows : cg;  // values of dweight that lie side by side
        float* out = dweight + (o * p.taps + tap) * n;
        for (int64_t c = 0; c < n; c++) {
          const int64_t row = p.few_channels ? c : o % og, column = p.few_channels ? o % og : c;
          const int64_t panel = o / og * p.panels + column / tile_columns;
          out[c] = partial[((panel * p.taps + tap) * p.rows + row) * tile_columns + column % tile_columns];
        }
      }
  });
}

}  // namespace turl
