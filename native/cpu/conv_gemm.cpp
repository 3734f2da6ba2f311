// Forward convolution and its gradient with respect to the image, float32, as one implicit GEMM: nothing of the size of an
// im2col matrix exists. Both gather: a result pixel is a sum over taps of (input pixel) x (matrix of the tap). A chunk of result
// pixels holds a table of pointers to their input pixels, one for each tap (a row of zeros outside of the image), and register
// tiles of pixels x output channels run over taps and channels with a packed panel of weights in the first-level cache.
//
// The image's gradient with stride s falls into s x s phases: the pixels (s i + p, s j + q) meet only the taps u = p + padding
// (mod s), v = q + padding (mod s), so no product with a zero is computed. Where a pixel has few channels (the first layer), the
// chunk's patches are copied side by side first, so that the inner loop is long.
#include <vector>
#include "cpu/conv_fast.h"
#include "cpu/gemm_tile.h"
#include "cpu/parallel.h"

namespace turl {
namespace {

struct Tap {
  int64_t y, x;   // input pixel = in_step (i, j) + (y, x)
  int64_t index;  // of the kernel's taps
};

// Result pixels (out_y + out_step i, out_x + out_step j) for i < rows, j < columns.
struct Phase {
  int64_t rows, columns, out_step, out_y, out_x, in_step;
  std::vector<Tap> taps;
};

// What is gathered from where: in [batch, in_h, in_w, groups depth] to out [batch, out_h, out_w, groups width].
struct Gather {
  int64_t batch, in_h, in_w, out_h, out_w, groups, depth, width;
  // The weight of (group, tap, input channel d, output channel j) is weight[group group_step + tap tap_step + d d_step + j j_step].
  int64_t group_step, tap_step, d_step, j_step;
};

// panels [groups][column panel][tap][depth][tile_columns]
void pack_weight(Context& context, float* panels, const float* weight, const Gather& g, const Phase& phase) {
  const int64_t per_group = divide_up(g.width, tile_columns), taps = int64_t(phase.taps.size());
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

// Fills rows[t][p] and result[p] for the pixels [begin, end) of a phase, line by line of the result; the table's step is `step`,
// and missing pixels are `zero`.
void point(const float** rows, float** result, int64_t step, int64_t begin, int64_t end, const float* in, float* out,
           const float* zero, const Gather& g, const Phase& phase) {
  const int64_t in_c = g.groups * g.depth, out_c = g.groups * g.width, taps = int64_t(phase.taps.size());
  for (int64_t p = begin; p < end;) {
    const int64_t first = p % phase.columns, i = p / phase.columns % phase.rows, b = p / phase.columns / phase.rows;
    const int64_t count = std::min(phase.columns - first, end - p), at = p - begin;
    float* line = out + ((b * g.out_h + phase.out_y + i * phase.out_step) * g.out_w + phase.out_x) * out_c;
    for (int64_t k = 0; k < count; k++) result[at + k] = line + (first + k) * phase.out_step * out_c;
    for (int64_t t = 0; t < taps; t++) {
      const float** row = rows + t * step + at;
      const int64_t y = i * phase.in_step + phase.taps[size_t(t)].y, x = first * phase.in_step + phase.taps[size_t(t)].x;
      // The columns [from, to) of the line whose input column x + k in_step lies in the image.
      const bool inside = y >= 0 && y < g.in_h;
      const int64_t to = inside && x < g.in_w ? std::min(count, divide_up(g.in_w - x, phase.in_step)) : 0;
      const int64_t from = std::min(to, x < 0 ? divide_up(-x, phase.in_step) : 0);
      const float* pixel = in + ((b * g.in_h + y) * g.in_w + x) * in_c;
      for (int64_t k = 0; k < from; k++) row[k] = zero;
      for (int64_t k = from; k < to; k++) row[k] = pixel + k * phase.in_step * in_c;
      for (int64_t k = to; k < count; k++) row[k] = zero;
    }
    p += count;
  }
  for (int64_t t = 0; t < taps; t++) std::fill(rows + t * step + end - begin, rows + (t + 1) * step, zero);
}

// Copies the pixels of all taps side by side: patch [step][taps][depth]. `fixed` is the depth where it is known beforehand.
template <int64_t fixed>
void copy_patches(float* patch, const float* const* rows, int64_t step, int64_t taps, int64_t any_depth) {
  const int64_t depth = fixed > 0 ? fixed : any_depth;
  for (int64_t t = 0; t < taps; t++)
    for (int64_t p = 0; p < step; p++)
      for (int64_t d = 0; d < depth; d++) patch[(p * taps + t) * depth + d] = rows[t * step + p][d];
}

void gather_phase(Context& context, float* out, const float* in, const float* weight, const Gather& g, const Phase& phase) {
  const int64_t pixels = g.batch * phase.rows * phase.columns, taps = int64_t(phase.taps.size());
  if (pixels == 0) return;
  const int64_t panels = divide_up(g.width, tile_columns), panel_size = taps * g.depth * tile_columns;
  float* packed = static_cast<float*>(context.scratch(size_t(std::max<int64_t>(1, g.groups * panels * panel_size)) * 4));
  pack_weight(context, packed, weight, g, phase);
  std::vector<float> zero(size_t(g.groups * g.depth), 0.0f);

  // Patches make one tap of taps x depth channels.
  const bool patches = g.depth < 8 && taps > 1 && g.groups == 1;
  const int64_t tile_taps = patches ? 1 : taps, tile_depth = patches ? taps * g.depth : g.depth;
  const int64_t taps_at_once = std::max<int64_t>(1, panel_depth / tile_depth);
  const int64_t depth_at_once = divide_up(tile_depth, divide_up(tile_depth, panel_depth));
  const int64_t step = pixels > 192 * 64 ? 192 : 96;  // pixels of a chunk: a multiple of tile_rows
  parallel_for(context, pixels, step, [&](int64_t begin, int64_t end) {
    std::vector<const float*> rows(size_t(taps * step));
    std::vector<float*> result(size_t(step), nullptr);
    point(rows.data(), result.data(), step, begin, end, in, out, zero.data(), g, phase);
    if (patches) {
      float* patch = thread_memory<0>(step * tile_depth);
      (g.depth == 3 ? copy_patches<3> : copy_patches<0>)(patch, rows.data(), step, taps, g.depth);
      for (int64_t p = 0; p < step; p++) rows[size_t(p)] = patch + p * tile_depth;
    }
    for (int64_t n = 0; n < g.groups * panels; n++) {
      const int64_t group = n / panels, first = n % panels * tile_columns;
      const int64_t columns = std::min<int64_t>(tile_columns, g.width - first);
      const float* panel = packed + n * panel_size;
      int64_t t = 0, d = 0;
      do {
        const int64_t t_count = std::min(taps_at_once, tile_taps - t), d_count = std::min(depth_at_once, tile_depth - d);
        for (int64_t p = 0; p < end - begin; p += tile_rows)
          tile(rows.data() + t * step + p, step, t_count, group * g.depth + d, d_count, panel + (t * tile_depth + d) * tile_columns,
               result.data() + p, group * g.width + first, end - begin - p, columns, t > 0 || d > 0);
        d += d_count;
        if (d == tile_depth) d = 0, t += t_count;
      } while (t < tile_taps);
    }
  });
}

}  // namespace

void gemm_conv_forward(Context& context, float* y, const float* x, const float* weight, const Convolution& s) {
  const int64_t cg = s.group_channels(), og = s.group_out_channels();
  const Gather g{s.batch,  s.height, s.width, s.out_height(),      s.out_width(), s.groups,
                 cg,       og,       og * s.taps() * cg, cg, 1,             s.taps() * cg};
  Phase phase{s.out_height(), s.out_width(), 1, 0, 0, s.stride, {}};
  for (int64_t u = 0; u < s.kernel_h; u++)
    for (int64_t v = 0; v < s.kernel_w; v++) phase.taps.push_back({u - s.padding, v - s.padding, u * s.kernel_w + v});
  gather_phase(context, y, x, weight, g, phase);
}

void gemm_conv_backward_data(Context& context, float* dx, const float* dy, const float* weight, const Convolution& s) {
  const int64_t cg = s.group_channels(), og = s.group_out_channels();
  const Gather g{s.batch, s.out_height(), s.out_width(), s.height, s.width, s.groups,
                 og,      cg,             og * s.taps() * cg, cg,  s.taps() * cg, 1};
  for (int64_t p = 0; p < s.stride; p++)
    for (int64_t q = 0; q < s.stride; q++) {
      Phase phase{(s.height - p + s.stride - 1) / s.stride, (s.width - q + s.stride - 1) / s.stride, s.stride, p, q, 1, {}};
      for (int64_t u = (p + s.padding) % s.stride; u < s.kernel_h; u += s.stride)
        for (int64_t v = (q + s.padding) % s.stride; v < s.kernel_w; v += s.stride)
          phase.taps.push_back({(p + s.padding - u) / s.stride, (q + s.padding - v) / s.stride, u * s.kernel_w + v});
      gather_phase(context, dx, dy, weight, g, phase);
    }
}

}  // namespace turl
