// Forward convolution and its gradient with respect to the image, float32, as implicit GEMM: the im2col matrix is never built. Both are a
// gather (conv_gather.h). A register tile has some pixels x output channels; it runs over taps and channels with a packed panel of weights,
// while the input pixels of the next tile are prefetched. Where pixels are few, a chunk takes only some of the panels, so that there are
// enough chunks. Where a pixel has few channels (the first layer), the image first gets its border of zeros: then the pixels of a line that
// a window meets lie side by side, and the inner loop is long.
#include "cpu/conv_fast.h"
#include "cpu/conv_gather.h"
#include "cpu/gemm_tile.h"
#include "cpu/parallel.h"

namespace turl {
namespace {

// Length of the inner dimension in one pass. With AVX-512 the second-level cache is fast enough to read panels from, so passes are longer,
// and fewer of them must add to the result.
constexpr int64_t pass_depth = lanes == 16 ? 640 : panel_depth;

// panels [groups][column panel][tap][depth][tile_columns]
void pack_weight(Context& context, float* panels, const float* weight, const Gather& g, const Phase& phase) {
  const int64_t per_group = ceil_div(g.width, tile_columns), taps = int64_t(phase.taps.size());
  parallel_for(context, g.groups * per_group, 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; p++) {
      const int64_t first = p % per_group * tile_columns, n = std::min<int64_t>(tile_columns, g.width - first);
      float* out = panels + p * taps * g.depth * tile_columns;
      for (const Tap& tap : phase.taps) {
        const float* in = weight + p / per_group * g.group_step + tap.index * g.tap_step + first * g.j_step;
        for (int64_t d = 0; d < g.depth; d++, out += tile_columns) {
          for (int64_t j = 0; j < n; j++) out[j] = in[d * g.d_step + j * g.j_step];
          for (int64_t j = n; j < tile_columns; j++) out[j] = 0;
        }
      }
    }
  });
}

void gather_phase(Context& context, float* out, ChannelSums* sums, const float* in, const float* weight, const Gather& g,
                  const Phase& phase) {
  const int64_t pixels = g.batch * phase.rows * phase.columns, taps = int64_t(phase.taps.size());
  if (pixels == 0) return;
  const int64_t panels = ceil_div(g.width, tile_columns), panel_size = taps * g.depth * tile_columns;
  float* packed = static_cast<float*>(context.scratch(size_t(std::max<int64_t>(1, g.groups * panels * panel_size)) * 4));
  pack_weight(context, packed, weight, g, phase);
  std::vector<float> zero(size_t(g.groups * g.depth), 0.0f);

  // A pass of the tiles takes so many taps, or so many channels of one tap, such that all passes are about equally long.
  const int64_t taps_at_once = ceil_div(taps, std::max<int64_t>(1, ceil_div(taps * g.depth, pass_depth)));
  const int64_t depth_at_once = ceil_div(g.depth, ceil_div(g.depth, pass_depth));
  const bool one_pass = taps_at_once >= taps && depth_at_once == g.depth;
  const bool streaming = one_pass && g.width % 16 == 0 && worth_streaming(out, pixels, g.groups * g.width);  // whole cache lines
  const Write first_write = streaming ? Write::streaming : Write::plain;
  // A chunk is a block of about 192 pixels x some panels of weights. Few pixels make chunks of fewer panels, so that there are some 32 chunks.
  const int64_t step = round_up(ceil_div(pixels, ceil_div(pixels, 192)), tile_rows), pixel_blocks = ceil_div(pixels, step);
  const int64_t panels_at_once = ceil_div(g.groups * panels, std::min(g.groups * panels, ceil_div(32, pixel_blocks)));
  const int64_t panel_blocks = ceil_div(g.groups * panels, panels_at_once);
  if (sums) sums->begin(pixel_blocks);
  parallel_chunks(context, pixel_blocks * panel_blocks, [&](int64_t chunk) {
    const int64_t begin = chunk / panel_blocks * step, end = std::min(pixels, begin + step);
    const int64_t first_panel = chunk % panel_blocks * panels_at_once;
    const int64_t last_panel = std::min(g.groups * panels, first_panel + panels_at_once);
    const Table<float> table(taps, step);
    point(table, step, begin, end, in, out, zero.data(), g, phase);
    const RowSums chunk_sums = sums ? ChannelSums::rows(g.groups * g.width + tile_columns) : RowSums{};
    for (int64_t n = first_panel; n < last_panel; n++) {
      const int64_t group = n / panels, first = n % panels * tile_columns;
      const int64_t columns = std::min<int64_t>(tile_columns, g.width - first);
      const float* panel = packed + n * panel_size;
      const bool fetch = g.depth >= 16 && (n == first_panel || first == 0);  // the first time that these channels are read
      int64_t t = 0, d = 0;
      do {
        const int64_t t_count = std::min(taps_at_once, taps - t), d_count = std::min(depth_at_once, g.depth - d);
        const bool last = t + t_count == taps && d + d_count == g.depth;
        for (int64_t p = 0; p < end - begin; p += tile_rows)
          tile(table.rows + t * step + p, step, t_count, group * g.depth + d, d_count, panel + (t * g.depth + d) * tile_columns,
               table.result + p, group * g.width + first, end - begin - p, columns, t > 0 || d > 0 ? Write::add : first_write,
               fetch && p + tile_rows < end - begin ? tile_rows : 0, last ? chunk_sums : RowSums{}, p == 0);
        d += d_count;
        if (d == g.depth) d = 0, t += t_count;
      } while (t < taps);
      if (sums) sums->leave(chunk / panel_blocks, group * g.width + first, columns, chunk_sums, group * g.width + first, end - begin);
    }
    if (streaming) end_streaming();
  });
}

// In the image with its border, the taps of one line of the window are a single tap of kernel_w x channels values.
void few_channels_forward(Context& context, float* y, ChannelSums* sums, const float* x, const float* weight, const Convolution& s) {
  const int64_t height = s.height + 2 * s.padding, line = (s.width + 2 * s.padding) * s.channels;
  const int64_t border = s.padding * s.channels, inside = s.width * s.channels;
  float* bordered = static_cast<float*>(context.scratch(size_t(s.batch * height * line) * 4));
  parallel_for(context, s.batch * height, ceil_div(16384, line), [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at++) {
      const int64_t image = at / height, i = at % height - s.padding;
      float* out = bordered + at * line;
      if (i < 0 || i >= s.height) {
        std::fill(out, out + line, 0.0f);
        continue;
      }
      std::fill(out, out + border, 0.0f);
      memcpy(out + border, x + (image * s.height + i) * inside, size_t(inside) * 4);
      std::fill(out + border + inside, out + line, 0.0f);
    }
  });
  const int64_t depth = s.kernel_w * s.channels;
  const Gather g{s.batch, height, s.width + 2 * s.padding, s.channels, s.out_height(), s.out_width(), 1, depth, s.out_channels,
                 0, depth, 1, s.kernel_h * depth};
  Phase phase{s.out_height(), s.out_width(), 1, 0, 0, s.stride, {}};
  for (int64_t u = 0; u < s.kernel_h; u++) phase.taps.push_back({u, 0, u});
  gather_phase(context, y, sums, bordered, weight, g, phase);
}

}  // namespace

void gemm_conv_forward(Context& context, float* y, ChannelSums* sums, const float* x, const float* weight, const Convolution& s) {
  if (s.groups == 1 && s.channels < 8 && s.kernel_w > 1) return few_channels_forward(context, y, sums, x, weight, s);
  const auto [gather, phase] = forward_gather(s);
  gather_phase(context, y, sums, x, weight, gather, phase);
}

void gemm_conv_backward_data(Context& context, float* dx, const float* dy, const float* weight, const Convolution& s) {
  const auto [gather, phases] = backward_gather(s);
  for (const Phase& phase : phases) gather_phase(context, dx, nullptr, dy, weight, gather, phase);
}

}  // namespace turl
