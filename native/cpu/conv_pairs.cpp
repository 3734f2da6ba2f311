// Convolutions in bfloat16 on processors that multiply pairs of bfloat16 at the rate at which they multiply floats (AVX-512
// BF16: vdpbf16ps adds two products to each float32 sum). Nothing is widened, and nearly twice as many products fit into the same time. Sums are
// float32; results are rounded once.
//
// Forward and the image's gradient gather as in conv_gemm.cpp, but over pairs of neighbouring channels. The weight's gradient sums over
// pixels, so both operands are packed in pairs of neighbouring result pixels of a line: dy as [pair][channels of a block]; x, for one tap,
// as [pair][tile_columns], where the two pixels lie `stride` apart and are zero outside of the image. Where a pixel has few channels (the
// first layer), whole patches take the place of the channels, forward and for the weight.
#include "cpu/bfloat16_rows.h"
#include "cpu/channels.h"
#include "cpu/conv_fast.h"
#include "cpu/conv_patches.h"
#include "cpu/parallel.h"

#if defined(__AVX512BW__) && !defined(__clang__)  // clang does not know these pragmas
#pragma GCC push_options
#pragma GCC target("avx512bf16")

namespace turl {
namespace {

inline __m512bh load(const Pair* p) { return (__m512bh)_mm512_loadu_si512(p); }
// One pair, from two neighbouring values of any alignment, in every lane.
inline __m512bh splat(const bfloat16* p) {
  int32_t bits;
  memcpy(&bits, p, 4);
  return (__m512bh)_mm512_set1_epi32(bits);
}

// sums[r][j] (+)= sum over t < taps, k < pairs of the pair at rows[t row_step + r] + offset + 2 k times panel[t pairs + k][j]. The sums stay
// in `partial` [tile_rows][tile_columns]; if `out` is given, they go to out[r][out_offset + j] for r < valid, j < columns instead. Meanwhile
// the lines of the result are prefetched, and, unless `ahead` is 0, what the pointers `ahead` places further point to. If `summed`, results
// are summed for the columns from out_offset on: even channels in the first vector, odd ones in the second; `fresh` as for RowSums.
template <bool summed>
__attribute__((noinline)) void tile(const bfloat16* const* rows, int64_t row_step, int64_t taps, int64_t offset, int64_t pairs,
                                    const Pair* panel, float* partial, bool accumulate, bfloat16* const* out,
                                    int64_t out_offset, int64_t valid, int64_t columns, bool streaming, int64_t ahead, const RowSums& sums,
                                    bool fresh) {
  constexpr int64_t line = 16;                     // pairs of a cache line
  const int64_t steps = ahead > 0 ? line : pairs;  // between fetches
  if (out && !streaming)
    for (int r = 0; r < tile_rows && r < valid; r++) __builtin_prefetch(out[r] + out_offset, 1);
  __m512 sum[tile_rows][2] = {};
  if (accumulate)
#pragma GCC unroll 12
    for (int r = 0; r < tile_rows; r++) {
      sum[r][0] = turl::load(partial + r * tile_columns);
      sum[r][1] = turl::load(partial + r * tile_columns + lanes);
    }
  for (int64_t t = 0; t < taps; t++) {
    const bfloat16* p[tile_rows];
#pragma GCC unroll 12
    for (int r = 0; r < tile_rows; r++) p[r] = rows[t * row_step + r] + offset;
    for (int64_t first = 0; first < pairs; first += steps) {
      if (ahead > 0)
        for (int r = 0; r < tile_rows; r++) __builtin_prefetch(rows[t * row_step + ahead + r] + offset + 2 * first, 0, 2);
      for (int64_t k = first; k < std::min(pairs, first + steps); k++, panel += tile_columns) {
        const __m512bh b0 = load(panel), b1 = load(panel + lanes);
#pragma GCC unroll 12
        for (int r = 0; r < tile_rows; r++) {
          const __m512bh a = splat(p[r] + 2 * k);
          sum[r][0] = _mm512_dpbf16_ps(sum[r][0], a, b0);
          sum[r][1] = _mm512_dpbf16_ps(sum[r][1], a, b1);
        }
      }
    }
  }
  if (!out) {
#pragma GCC unroll 12
    for (int r = 0; r < tile_rows; r++)
      for (int j = 0; j < 2; j++) turl::store(partial + r * tile_columns + j * lanes, vfloat(sum[r][j]));
    return;
  }
  __m512i row[tile_rows];
#pragma GCC unroll 12
  for (int r = 0; r < tile_rows; r++) {
    row[r] = round_row(vfloat(sum[r][0]), vfloat(sum[r][1]));
    if (r < valid) store_row(out[r] + out_offset, row[r], columns, streaming);
  }
  if constexpr (summed) {
    const auto even = [](__m512i v) { return vfloat(_mm512_maskz_slli_epi32(0xffff, v, 16)); };
    const auto odd = [](__m512i v) { return vfloat(_mm512_and_si512(v, _mm512_set1_epi32(int32_t(0xffff0000)))); };
    RowSums::Accumulator<2> row_sums(sums, out_offset, fresh);
    row_sums.start(0, even(row[0])), row_sums.start(1, odd(row[0]));
#pragma GCC unroll 12
    for (int r = 0; r < tile_rows; r++) {
      if (r >= valid) break;
      row_sums.add(0, even(row[r])), row_sums.add(1, odd(row[r]));
    }
    row_sums.end();
  }
}

template <int rows>
__attribute__((noinline)) void outer_tile_of(float* total, const Pair* a, int64_t a_step, const Pair* b, int64_t pairs, bool accumulate) {
  __m512 sum[rows][2] = {};
  if (accumulate)
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
      sum[r][0] = turl::load(total + r * tile_columns);
      sum[r][1] = turl::load(total + r * tile_columns + lanes);
    }
  for (int64_t k = 0; k < pairs; k++, a += a_step, b += tile_columns) {
    const __m512bh b0 = load(b), b1 = load(b + lanes);
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
      const __m512bh v = splat(&a[r].first);
      sum[r][0] = _mm512_dpbf16_ps(sum[r][0], v, b0);
      sum[r][1] = _mm512_dpbf16_ps(sum[r][1], v, b1);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < rows; r++) {
    turl::store(total + r * tile_columns, vfloat(sum[r][0]));
    turl::store(total + r * tile_columns + lanes, vfloat(sum[r][1]));
  }
}

// total[r][j] (+)= sum over k < pairs of the product of the pairs a[k a_step + r] and b[k][j], for r < rows <= tile_rows.
void outer_tile(int64_t rows, float* total, const Pair* a, int64_t a_step, const Pair* b, int64_t pairs, bool accumulate) {
  with_rows(rows, [&]<int n>() { outer_tile_of<n>(total, a, a_step, b, pairs, accumulate); });
}

constexpr int64_t pixels_ahead = 16;  // to prefetch when pixels are packed

// panels [groups][column panel][pair of (tap, depth)][tile_columns]; an odd end is filled with zero.
void pack_weight(Context& context, Pair* panels, const bfloat16* weight, int64_t pairs, const Gather& g, const Phase& phase) {
  const int64_t per_group = ceil_div(g.width, tile_columns), values = int64_t(phase.taps.size()) * g.depth;
  parallel_for(context, g.groups * per_group, 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; p++) {
      const int64_t first = p % per_group * tile_columns, n = std::min<int64_t>(tile_columns, g.width - first);
      bfloat16* out = &panels[p * pairs * tile_columns].first;
      memset(out, 0, size_t(pairs * tile_columns) * sizeof(Pair));
      for (int64_t e = 0; e < values; e++) {
        const bfloat16* in = weight + p / per_group * g.group_step + phase.taps[size_t(e / g.depth)].index * g.tap_step +
                             e % g.depth * g.d_step + first * g.j_step;
        for (int64_t j = 0; j < n; j++) out[(e / 2 * tile_columns + j) * 2 + e % 2] = in[j * g.j_step];
      }
    }
  });
}

void gather_phase(Context& context, bfloat16* out, ChannelSums* sums, const bfloat16* in, const bfloat16* weight, const Gather& g,
                  const Phase& phase) {
  const int64_t pixels = g.batch * phase.rows * phase.columns, taps = int64_t(phase.taps.size());
  if (pixels == 0) return;
  const bool patches = takes_patches(g, phase);
  const Patches patch(g, phase);
  const int64_t panels = ceil_div(g.width, tile_columns), pairs = ceil_div(taps * g.depth, 2);
  Pair* packed = static_cast<Pair*>(context.scratch(size_t(std::max<int64_t>(1, g.groups * panels * pairs * tile_columns)) * 4));
  pack_weight(context, packed, weight, pairs, g, phase);
  const std::vector<bfloat16> zero(size_t(g.groups * g.depth), bfloat16(0.0f));

  const bool streaming = g.width % tile_columns == 0 && worth_streaming(out, pixels, g.groups * g.width);
  // A panel of panel_pairs pairs stays in the first-level cache. With patches, all pairs are those of one tap.
  constexpr int64_t panel_pairs = 256;
  const int64_t tile_taps = patches ? 1 : taps, tap_pairs = patches ? pairs : std::max<int64_t>(1, g.depth / 2);
  const int64_t taps_at_once = std::max<int64_t>(1, panel_pairs / tap_pairs);
  const int64_t pairs_at_once = ceil_div(tap_pairs, ceil_div(tap_pairs, panel_pairs));
  // A chunk has `at_once` pixels, with patches whole lines of the result. The tables have room for a multiple of tile_rows.
  const int64_t many = pixels > 192 * 64 ? 192 : 96;
  const int64_t at_once = patches ? ceil_div(many, phase.columns) * phase.columns : many, step = round_up(at_once, tile_rows);
  Phase places = phase;
  if (patches) places.taps.clear();
  if (sums) sums->begin(ceil_div(pixels, at_once));
  parallel_for(context, pixels, at_once, [&](int64_t begin, int64_t end) {
    const RowSums chunk_sums = sums ? ChannelSums::rows(g.groups * g.width + tile_columns) : RowSums{};
    const Table<bfloat16> table(taps, step);
    point(table, step, begin, end, in, out, zero.data(), g, places);
    if (patches) {
      bfloat16* made = reinterpret_cast<bfloat16*>(thread_memory<Slot::operand>(step * patch.length / 2));
      for (int64_t p = 0; p < step; p++) table.rows[p] = made + p * patch.length;
      for (int64_t p = begin; p < end; p += phase.columns) {
        const int64_t line = p / phase.columns;
        patch.make(made + (p - begin) * patch.length, in, line / phase.rows, line % phase.rows);
      }
    }
    float* partial = thread_memory<Slot::other_operand>(step * tile_columns);
    for (int64_t n = 0; n < g.groups * panels; n++) {
      const int64_t group = n / panels, first = n % panels * tile_columns;
      const int64_t columns = std::min<int64_t>(tile_columns, g.width - first);
      const Pair* panel = packed + n * pairs * tile_columns;
      const bool fetch = !patches && first == 0;  // the first time that these channels are read
      for (int64_t t = 0, k = 0; t < tile_taps || t == 0;) {
        const int64_t t_count = std::min(taps_at_once, tile_taps - t), k_count = std::min(pairs_at_once, tap_pairs - k);
        const bool last = t + t_count == tile_taps && k + k_count == tap_pairs;
        for (int64_t p = 0; p < end - begin; p += tile_rows)
          (sums && last ? tile<true> : tile<false>)(
              table.rows + t * step + p, step, t_count, group * g.depth + 2 * k, k_count, panel + (t * tap_pairs + k) * tile_columns,
              partial + p * tile_columns, t > 0 || k > 0, last ? table.result + p : nullptr, group * g.width + first, end - begin - p,
              columns, streaming, fetch && p + tile_rows < end - begin ? tile_rows : 0, chunk_sums, p == 0);
        k += k_count;
        if (k == tap_pairs) k = 0, t += std::max<int64_t>(1, t_count);
      }
      for (int64_t j = 0; sums && j < columns; j++) {
        const int64_t c = group * g.width + first;
        const float* at = chunk_sums.origin + c + j % 2 * lanes + j / 2;
        sums->leave(begin / at_once, c + j, at[0], at[chunk_sums.columns], at[2 * chunk_sums.columns], end - begin);
      }
    }
    if (streaming) end_streaming();
  });
}

// How the work of the weight's gradient is divided. With patches, `columns` are taps x channels and there is one tap.
struct Plan {
  bool patches;
  int64_t columns, taps, line;            // columns and taps of one group; pairs of pixels of a line of dy
  int64_t rows, panels;                   // output channels and panels of one group
  int64_t row_blocks, rows_per_block;     // blocks of output channels
  int64_t width;                          // pairs from one packed pixel pair of dy to the next
  int64_t panel_blocks, panels_per_block; // blocks of input channels
  int64_t lines;                          // lines of a band, whose packed x stays in the first-level cache
  int64_t parts, lines_per_part;          // parts of the batch * out_height lines of dy
  int64_t part_size;                      // floats of a part's sums
};

Plan plan(const Convolution& s) {
  Plan p;
  p.patches = few_channels(s.group_channels(), s.groups);
  p.columns = s.group_channels() * (p.patches ? s.taps() : 1);
  p.taps = p.patches ? 1 : s.taps();
  p.line = ceil_div(s.out_width(), 2);
  p.rows = s.group_out_channels();
  p.panels = ceil_div(p.columns, tile_columns);
  p.row_blocks = ceil_div(p.rows, 144);
  p.rows_per_block = ceil_div(p.rows, p.row_blocks);
  p.width = round_up(p.rows_per_block, tile_columns) + 16;  // + 16: powers of two would use few cache sets
  p.panels_per_block = p.taps == 1 ? 4 : 2;  // dy is packed once for so many
  p.panel_blocks = ceil_div(p.panels, p.panels_per_block);
  p.lines = std::max<int64_t>(1, 128 / p.line);
  const int64_t all = s.batch * s.out_height(), blocks = s.groups * p.row_blocks * p.panel_blocks;
  const int64_t wanted = std::clamp<int64_t>(32 / blocks, 1, ceil_div(all, p.lines));
  p.lines_per_part = round_up(ceil_div(all, wanted), p.lines);
  p.parts = ceil_div(all, p.lines_per_part);
  p.part_size = s.groups * p.panels * p.taps * p.rows * tile_columns;
  return p;
}

// Packs n channels, from `first` on, of `count` lines of dy from `line` on. Missing pixels and channels are zero.
void pack_dy(Pair* packed, const bfloat16* dy, int64_t line, int64_t count, int64_t first, int64_t n, const bfloat16* zero,
             const Plan& p, const Convolution& s) {
  const int64_t wo = s.out_width();
  for (int64_t i = line; i < line + count; i++)
    for (int64_t k = 0; k < p.line; k++, packed += p.width) {
      const bfloat16* pixel = dy + (i * wo + 2 * k) * s.out_channels + first;
      const bool both = 2 * k + 1 < wo;
      for (int64_t o = 0; o < n; o += tile_columns)
        interleave(packed + o, pixel + o, both ? pixel + s.out_channels + o : zero, first_of(n - o),
                   pixels_ahead * s.out_channels);
    }
}

// Packs the channels [first, first + n) of the pixels of x that these lines of dy meet with tap (u, v).
void pack_x(Pair* packed, const bfloat16* x, int64_t line, int64_t count, int64_t u, int64_t v, int64_t first, int64_t n,
            const bfloat16* zero, const Plan& p, const Convolution& s) {
  const int64_t ho = s.out_height(), wo = s.out_width(), step = s.stride * s.channels;
  const __mmask32 mask = first_of(n);
  // The pixels [from, to) of a line whose column j stride + v - padding lies in the image.
  const int64_t to = std::clamp<int64_t>(ceil_div(s.width + s.padding - v, s.stride), 0, wo);
  const int64_t from = std::min(to, ceil_div(std::max<int64_t>(0, s.padding - v), s.stride));
  for (int64_t i = line; i < line + count; i++, packed += p.line * tile_columns) {
    const int64_t row = i % ho * s.stride + u - s.padding;
    const bfloat16* in = x + ((i / ho * s.height + row) * s.width + v - s.padding) * s.channels + first;
    const bool inside = row >= 0 && row < s.height;
    auto pixel = [&](int64_t j) { return inside && j >= from && j < to ? in + j * step : zero; };
    const int64_t whole = inside ? to / 2 : 0;  // before this pair, no pixel is beyond the right edge
    int64_t k = 0;
    for (; 2 * k < from && k < p.line; k++)
      interleave(packed + k * tile_columns, pixel(2 * k), pixel(2 * k + 1), mask);
    for (; k < whole; k++)
      interleave(packed + k * tile_columns, in + 2 * k * step, in + (2 * k + 1) * step, mask, pixels_ahead * step);
    for (; k < p.line; k++) interleave(packed + k * tile_columns, pixel(2 * k), pixel(2 * k + 1), mask);
  }
}

// Packs the values [first, first + n) of the patches of these lines; `made` is memory for the patches of one line.
void pack_patches(Pair* packed, bfloat16* made, const bfloat16* x, int64_t line, int64_t count, int64_t first, int64_t n,
                  const bfloat16* zero, const Plan& p, const Patches& patch) {
  for (int64_t i = line; i < line + count; i++) {
    patch.make(made, x, i / patch.phase.rows, i % patch.phase.rows);
    for (int64_t k = 0; k < p.line; k++, packed += tile_columns) {
      const bfloat16* pixel = made + 2 * k * patch.length + first;
      const bool both = 2 * k + 1 < patch.phase.columns;
      interleave(packed, pixel, both ? pixel + patch.length : zero, first_of(n));
    }
  }
}

}  // namespace

bool pairs_suit(const Convolution& s, int64_t depth) {
  // Intel's processors multiply pairs at half the rate, where there is no gain over float32.
  static const bool fast = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_is("amd");
  return fast && !s.depthwise() && depth % 2 == 0;
}

void pairs_conv_forward(Context& context, bfloat16* y, ChannelSums* sums, const bfloat16* x, const bfloat16* weight, const Convolution& s) {
  const auto [gather, phase] = forward_gather(s);
  gather_phase(context, y, sums, x, weight, gather, phase);
}

void pairs_conv_backward_data(Context& context, bfloat16* dx, const bfloat16* dy, const bfloat16* weight, const Convolution& s) {
  const auto [gather, phases] = backward_gather(s);
  for (const Phase& phase : phases) gather_phase(context, dx, nullptr, dy, weight, gather, phase);
}

void pairs_conv_backward_weight(Context& context, float* dweight, const bfloat16* dy, const bfloat16* x, const Convolution& s) {
  const int64_t all = s.batch * s.out_height(), og = s.group_out_channels(), cg = s.group_channels();
  if (all == 0) return std::fill(dweight, dweight + s.weight_size(), 0.0f);
  const Plan p = plan(s);
  const auto [gather, phase] = forward_gather(s);
  const Patches patch(gather, phase);
  float* partial = static_cast<float*>(context.scratch(size_t(p.parts * p.part_size) * 4));
  const std::vector<bfloat16> zero(size_t(tile_columns), bfloat16(0.0f));

  const int64_t blocks = s.groups * p.row_blocks * p.panel_blocks;
  parallel_chunks(context, p.parts * blocks, [&](int64_t chunk) {
    const int64_t part = chunk / blocks, group = chunk % blocks / (p.row_blocks * p.panel_blocks);
    const int64_t first_row = chunk / p.panel_blocks % p.row_blocks * p.rows_per_block;
    const int64_t rows = std::min(p.rows_per_block, p.rows - first_row), tiles = ceil_div(rows, tile_rows);
    const int64_t first_panel = chunk % p.panel_blocks * p.panels_per_block;
    const int64_t last_panel = std::min(p.panels, first_panel + p.panels_per_block);
    Pair* packed_dy = reinterpret_cast<Pair*>(thread_memory<Slot::operand>(p.width * p.lines * p.line));
    Pair* packed_x = reinterpret_cast<Pair*>(thread_memory<Slot::other_operand>(p.lines * p.line * tile_columns));
    bfloat16* made = reinterpret_cast<bfloat16*>(thread_memory<Slot::sums>(p.patches ? phase.columns * patch.length / 2 : 1));
    const int64_t begin = part * p.lines_per_part, end = std::min(all, begin + p.lines_per_part);
    for (int64_t line = begin; line < end; line += p.lines) {
      const int64_t count = std::min(p.lines, end - line), pairs = count * p.line;
      pack_dy(packed_dy, dy, line, count, group * og + first_row, rows, zero.data(), p, s);
      for (int64_t panel = first_panel; panel < last_panel; panel++) {
        const int64_t first = panel * tile_columns, n = std::min<int64_t>(tile_columns, p.columns - first);
        for (int64_t tap = 0; tap < p.taps; tap++) {
          if (p.patches) pack_patches(packed_x, made, x, line, count, first, n, zero.data(), p, patch);
          else pack_x(packed_x, x, line, count, tap / s.kernel_w, tap % s.kernel_w, group * cg + first, n, zero.data(), p, s);
          for (int64_t t = 0; t < tiles; t++) {
            const int64_t row = rows * t / tiles, height = rows * (t + 1) / tiles - row;
            const int64_t at = ((group * p.panels + panel) * p.taps + tap) * p.rows + first_row + row;
            outer_tile(height, partial + part * p.part_size + at * tile_columns, packed_dy + row, p.width, packed_x, pairs, line > begin);
          }
        }
      }
    }
  });

  add_chunks(context, partial, p.parts, p.part_size);
  parallel_for(context, s.out_channels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; o++)
      for (int64_t tap = 0; tap < p.taps; tap++)
        for (int64_t panel = 0; panel < p.panels; panel++) {
          const float* in = partial + (((o / og * p.panels + panel) * p.taps + tap) * p.rows + o % og) * tile_columns;
          const int64_t first = panel * tile_columns, n = std::min<int64_t>(tile_columns, p.columns - first);
          memcpy(dweight + o * s.taps() * cg + tap * cg + first, in, size_t(n) * 4);
        }
  });
}

}  // namespace turl
#pragma GCC pop_options

#else

namespace turl {

bool pairs_suit(const Convolution&, int64_t) { return false; }
void pairs_conv_forward(Context&, bfloat16*, ChannelSums*, const bfloat16*, const bfloat16*, const Convolution&) {}
void pairs_conv_backward_data(Context&, bfloat16*, const bfloat16*, const bfloat16*, const Convolution&) {}
void pairs_conv_backward_weight(Context&, float*, const bfloat16*, const bfloat16*, const Convolution&) {}

}  // namespace turl
#endif
