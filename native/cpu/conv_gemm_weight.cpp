// The convolution's gradient with respect to the weight, float32: dweight[o, u, v, c] = sum over pixels of
// dy[b, i, j, o] x[b, i stride + u - padding, j stride + v - padding, c].
//
// A chunk owns a block of output x input channels and a part of the rows of dy. It walks over its rows in bands that fit in the
// first-level cache: dy is packed as [tile of tile_rows channels][pixel], x as [line][column][tile_columns channels] with the
// padding written out, for one u at a time; then the v are shifts within the packed lines, and register tiles of
// tile_rows x tile_columns sums run over the band's pixels. The parts, whose number depends on sizes only, are added in order.
// Where a pixel has few channels (the first layer), whole patches take the place of the channels.
#include "cpu/conv_fast.h"
#include "cpu/gemm_tile.h"
#include "cpu/parallel.h"

namespace turl {
namespace {

// How the sum is cut. With patches, `columns` are taps x channels and there is one tap.
struct Plan {
  bool patches;
  int64_t out_tiles, panels, taps;        // of one group
  int64_t out_blocks, tiles_per_block;    // blocks of output channels
  int64_t panel_blocks, panels_per_block; // blocks of input channels
  int64_t columns;                        // input channels of a group, or values of a patch
  int64_t line, line_rows;                // pixels of a packed line, lines of a band
  int64_t parts, rows_per_part;           // of the batch * out_height rows of dy
  int64_t part_size;                      // floats
};

Plan plan(const Convolution& s) {
  Plan p;
  p.patches = s.group_channels() < 8 && s.taps() > 1;
  p.columns = s.group_channels() * (p.patches ? s.taps() : 1);
  p.taps = p.patches ? 1 : s.taps();
  p.out_tiles = divide_up(s.group_out_channels(), tile_rows);
  p.panels = divide_up(p.columns, tile_columns);
  p.out_blocks = divide_up(p.out_tiles * tile_rows, 96);
  p.tiles_per_block = divide_up(p.out_tiles, p.out_blocks);
  p.out_blocks = divide_up(p.out_tiles, p.tiles_per_block);
  p.panels_per_block = std::max<int64_t>(1, 64 / tile_columns);
  p.panel_blocks = divide_up(p.panels, p.panels_per_block);
  p.line = p.patches ? s.out_width() : (s.out_width() - 1) * s.stride + s.kernel_w;
  p.line_rows = std::max<int64_t>(1, 256 / p.line);
  const int64_t rows = s.batch * s.out_height(), blocks = s.groups * p.out_blocks * p.panel_blocks;
  const int64_t wanted = std::clamp<int64_t>(32 / blocks, 1, divide_up(rows, p.line_rows));
  p.rows_per_part = round_up(divide_up(rows, wanted), p.line_rows);
  p.parts = divide_up(rows, p.rows_per_part);
  p.part_size = s.groups * p.out_tiles * p.panels * p.taps * tile_rows * tile_columns;
  return p;
}

// packed [tile][rows * width pixels][tile_rows]
void pack_dy(float* packed, const float* dy, int64_t first_pixel, int64_t pixels, int64_t first, int64_t tiles, int64_t group,
             const Convolution& s) {
  const int64_t og = s.group_out_channels();
  for (int64_t t = 0; t < tiles; t++) {
    const int64_t o = (first + t) * tile_rows, n = std::min<int64_t>(tile_rows, og - o);
    const float* in = dy + first_pixel * s.out_channels + group * og + o;
    float* out = packed + t * pixels * tile_rows;
    if (n == tile_rows)
      for (int64_t p = 0; p < pixels; p++) memcpy(out + p * tile_rows, in + p * s.out_channels, tile_rows * 4);
    else
      for (int64_t p = 0; p < pixels; p++)
        for (int64_t r = 0; r < tile_rows; r++) out[p * tile_rows + r] = r < n ? in[p * s.out_channels + r] : 0;
  }
}

// packed [rows][line][tile_columns]: channels [first, first + n) of group for the rows of dy [row, row + rows) and tap row u.
void pack_x(float* packed, const float* x, int64_t row, int64_t rows, int64_t u, int64_t first, int64_t n, int64_t group,
            const Plan& p, const Convolution& s) {
  const int64_t ho = s.out_height();
  for (int64_t r = row; r < row + rows; r++) {
    const int64_t y = r % ho * s.stride + u - s.padding;
    const float* in = x + (r / ho * s.height + y) * s.width * s.channels + group * s.group_channels() + first;
    for (int64_t k = 0; k < p.line; k++, packed += tile_columns) {
      const int64_t column = k - s.padding;
      if (y < 0 || y >= s.height || column < 0 || column >= s.width) memset(packed, 0, tile_columns * 4);
      else if (n == tile_columns) memcpy(packed, in + column * s.channels, tile_columns * 4);
      else {
        memcpy(packed, in + column * s.channels, size_t(n) * 4);
        memset(packed + n, 0, size_t(tile_columns - n) * 4);
      }
    }
  }
}

// packed [rows][out_width][tile_columns]: values [first, first + n) of the patch of each pixel.
void pack_patches(float* packed, const float* x, int64_t row, int64_t rows, int64_t first, int64_t n, int64_t group,
                  const Convolution& s) {
  const int64_t ho = s.out_height(), wo = s.out_width(), cg = s.group_channels();
  for (int64_t k = 0; k < tile_columns; k++) {
    const int64_t value = first + k, u = value / cg / s.kernel_w, v = value / cg % s.kernel_w, c = group * cg + value % cg;
    for (int64_t r = row; r < row + rows; r++) {
      const int64_t y = r % ho * s.stride + u - s.padding;
      float* out = packed + (r - row) * wo * tile_columns + k;
      const float* in = x + (r / ho * s.height + y) * s.width * s.channels + c;
      for (int64_t j = 0; j < wo; j++) {
        const int64_t column = j * s.stride + v - s.padding;
        const bool inside = k < n && y >= 0 && y < s.height && column >= 0 && column < s.width;
        out[j * tile_columns] = inside ? in[column * s.channels] : 0.0f;
      }
    }
  }
}

}  // namespace

void gemm_conv_backward_weight(Context& context, float* dweight, const float* dy, const float* x, const Convolution& s) {
  const int64_t rows = s.batch * s.out_height(), wo = s.out_width(), og = s.group_out_channels(), cg = s.group_channels();
  if (rows == 0) return std::fill(dweight, dweight + s.weight_size(), 0.0f);
  const Plan p = plan(s);
  constexpr int64_t tile_size = tile_rows * tile_columns;
  float* partial = static_cast<float*>(context.scratch(size_t(p.parts * p.part_size) * 4));

  const int64_t blocks = s.groups * p.out_blocks * p.panel_blocks;
  parallel_chunks(context, p.parts * blocks, [&](int64_t chunk) {
    const int64_t part = chunk / blocks, group = chunk % blocks / (p.out_blocks * p.panel_blocks);
    const int64_t first_tile = chunk / p.panel_blocks % p.out_blocks * p.tiles_per_block;
    const int64_t tiles = std::min(p.tiles_per_block, p.out_tiles - first_tile);
    const int64_t first_panel = chunk % p.panel_blocks * p.panels_per_block;
    const int64_t last_panel = std::min(p.panels, first_panel + p.panels_per_block);
    float* packed_dy = thread_memory<0>(p.tiles_per_block * tile_rows * p.line_rows * wo);
    float* packed_x = thread_memory<1>(p.line_rows * p.line * tile_columns);
    const int64_t begin = part * p.rows_per_part, end = std::min(rows, begin + p.rows_per_part);
    for (int64_t row = begin; row < end; row += p.line_rows) {
      const int64_t count = std::min(p.line_rows, end - row), pixels = count * wo;
      pack_dy(packed_dy, dy, row * wo, pixels, first_tile, tiles, group, s);
      for (int64_t panel = first_panel; panel < last_panel; panel++) {
        const int64_t first = panel * tile_columns, n = std::min<int64_t>(tile_columns, p.columns - first);
        for (int64_t u = 0; u < (p.patches ? 1 : s.kernel_h); u++) {
          if (p.patches) pack_patches(packed_x, x, row, count, first, n, group, s);
          else pack_x(packed_x, x, row, count, u, first, n, group, p, s);
          for (int64_t t = 0; t < tiles; t++)
            for (int64_t v = 0; v < (p.patches ? 1 : s.kernel_w); v++) {
              const int64_t tile = ((group * p.out_tiles + first_tile + t) * p.panels + panel) * p.taps + u * s.kernel_w + v;
              outer_tile(partial + part * p.part_size + tile * tile_size, packed_dy + t * pixels * tile_rows,
                         packed_x + v * tile_columns, count, wo, p.line * tile_columns,
                         (p.patches ? 1 : s.stride) * tile_columns, row > begin);
            }
        }
      }
    }
  });

  parallel_for(context, s.out_channels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; o++)
      for (int64_t tap = 0; tap < p.taps; tap++)
        for (int64_t panel = 0; panel < p.panels; panel++) {
          const int64_t tile = ((o / og * p.out_tiles + o % og / tile_rows) * p.panels + panel) * p.taps + tap;
          const float* in = partial + tile * tile_size + o % og % tile_rows * tile_columns;
          const int64_t first = panel * tile_columns, n = std::min<int64_t>(tile_columns, p.columns - first);
          float* out = dweight + o * s.taps() * cg + tap * cg + first;
          for (int64_t c = 0; c < n; c++) out[c] = in[c];
          for (int64_t part = 1; part < p.parts; part++)
            for (int64_t c = 0; c < n; c++) out[c] += in[part * p.part_size + c];
        }
  });
}

}  // namespace turl
