// Convolutions in bfloat16 on matrix units (matrix_units.h); shapes and formula in convolution.h. Sums are float32; results are
// rounded once.
//
// The rows of a tile must lie the same distance apart. So the input pixels of a chunk of the result are copied, with zeros around them, into
// one row of positions (conv_positions.h), in which the input pixel of a tap lies the same number of positions further than the result pixel
// for all of them. Positions between two lines of the result are computed in vain: 1 of 57 at 56x56, 1 of 8 at 7x7.
//
// This file has the forward pass and the image's gradient, which multiply [positions, channels] by the weight of each tap. The weight's
// gradient is in conv_matrix_weight.cpp. Where a pixel has few channels (the first layer), whole patches take their place.
#include "cpu/channels.h"
#include "cpu/conv_fast.h"
#include "cpu/conv_positions.h"
#include "cpu/parallel.h"

#if defined(__AVX512BW__)

namespace turl {
namespace {

constexpr int64_t block = unit_block;
constexpr int64_t cached = 512 * 1024;  // values of a chunk, so that they stay in the second-level cache together with the weight

// packed [group][column panel][tap][unit_depth channels]: the weight, as two tiles of pairs side by side.
void pack_weight(Context& context, Pair* packed, const bfloat16* weight, const Gather& g, const Phase& phase) {
  const int64_t panels = ceil_div(g.width, block), steps = ceil_div(g.depth, unit_depth), taps = int64_t(phase.taps.size());
  parallel_for(context, g.groups * panels * taps, 4, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; item++) {
      const int64_t group = item / taps / panels, first = item / taps % panels * block, n = std::min(block, g.width - first);
      const int64_t tap = phase.taps[size_t(item % taps)].index;
      const bfloat16* in = weight + group * g.group_step + tap * g.tap_step + first * g.j_step;
      Pair* out = packed + item * steps * 2 * unit_size;
      for (int64_t d = 0; d < steps * unit_depth; d += unit_depth, out += 2 * unit_size) {
        const int64_t count = std::min(unit_depth, g.depth - d);
        if (g.d_step == 1) {
          for (int64_t half = 0; half < 2; half++) {
            vfloat rows[lanes] = {};  // rows of 16 pairs, transposed to the pairs of 16 columns
            for (int64_t j = 0; j < std::min(unit_side, n - half * unit_side); j++)
              rows[j] = vfloat(_mm512_maskz_loadu_epi16(first_of(count), in + (half * unit_side + j) * g.j_step + d));
            transpose(rows);
            for (int64_t r = 0; r < lanes; r++) store(&reinterpret_cast<float*>(out)[half * unit_size + r * unit_side], rows[r]);
          }
        } else {
          for (int64_t r = 0; r < unit_side; r++) {
            const bfloat16* row = in + (d + 2 * r) * g.d_step;
            interleave(out + r * unit_side, row, row + (2 * r + 1 < count ? g.d_step : 0), 2 * r < count ? first_of(n) : 0, 0,
                       unit_size);
            if (2 * r + 1 == count)  // the last of an odd number of channels has no neighbour
              for (int64_t j = 0; j < block; j++)
                out[j / unit_side * unit_size + r * unit_side + j % unit_side].second = bfloat16(0.0f);
          }
        }
      }
    }
  });
}

// sums [32][32] = the products of two tiles of rows, which begin at a and at b, with a panel, summed over taps and steps x unit_depth channels.
template <class Units>
__attribute__((noinline)) void product(Units& unit, float* sums, const bfloat16* a, const bfloat16* b, int64_t row,
                                       const int64_t* offset, int64_t taps, int64_t steps, const Pair* panel) {
  Units::fence();
  zero_sums(unit);
  for (int64_t t = 0; t < taps; t++) {
    const bfloat16 *p = a + offset[t] * row, *q = b + offset[t] * row;
    for (int64_t k = 0; k < steps; k++, p += unit_depth, q += unit_depth, panel += 2 * unit_size)
      multiply_four(unit, p, q, row * 2, panel, panel + unit_size, unit_side * 4);
  }
  store_sums(unit, sums, block);
}

// The tiles of a chunk. multiply() multiplies them, two at a time, by the weight of each column panel (panels are `panel_size` apart), writes
// `width` channels from `first` on of those results that are pixels, and sums them if column_sums has memory.
template <class Units> struct Chunk {
  struct Tile {
    int64_t position, result;
  };
  Units unit;
  std::vector<Tile> tiles;
  std::vector<bfloat16*> results;  // result pixels by position; null where there is none
  RowSums column_sums;

  void multiply(const bfloat16* pixels, int64_t row, const int64_t* offset, int64_t taps, int64_t steps, const Pair* weights,
                int64_t panel_size, int64_t first, int64_t width, bool streaming) {
    alignas(64) float sums[unit_block_size];
    const int64_t count = int64_t(tiles.size()), twos = ceil_div(count, 2), panels = ceil_div(width, block);
    for (int64_t i = 0; i < twos * panels; i++) {
      // With one tap, two tiles go through all panels, so that pixels come from memory once; else a panel goes through all tiles.
      const int64_t t = 2 * (taps == 1 ? i / panels : i % twos), panel = taps == 1 ? i % panels : i / twos;
      const int64_t second = std::min(t + 1, count - 1);  // the last of an odd number of tiles is its own partner
      product(unit, sums, pixels + tiles[size_t(t)].position * row, pixels + tiles[size_t(second)].position * row, row, offset, taps,
              steps, weights + panel * panel_size);
      for (int64_t half = 0; t + half <= second; half++) {
        bfloat16* const* to = results.data() + tiles[size_t(t + half)].result;
        const int64_t from = first + panel * block, columns = std::min(block, width - panel * block);
        if (column_sums.origin) write_summed(sums + half * unit_side * block, to, from, columns, streaming, t + half == 0);
        else write(sums + half * unit_side * block, to, from, columns, streaming, [](__m512i) {});
      }
    }
  }

 private:
  // Writes the results of a tile for `columns` channels from c on, and calls also_use(row) for each row that it writes.
  template <class Use>
  static void write(const float* from, bfloat16* const* to, int64_t c, int64_t columns, bool streaming, Use also_use) {
    for (int64_t r = 0; r < unit_side; r++) {
      const __m512i row = Units::round(load(from + r * block), load(from + r * block + unit_side));
      if (!to[r]) continue;
      store_row(to[r] + c, row, columns, streaming);
      also_use(row);
    }
  }
  // The same, and sums the results; `fresh` as for RowSums.
  void write_summed(const float* from, bfloat16* const* to, int64_t c, int64_t columns, bool streaming, bool fresh) const {
    RowSums::Accumulator<2> row_sums(column_sums, c, fresh);
    row_sums.start(0, load(from)), row_sums.start(1, load(from + unit_side));
    write(from, to, c, columns, streaming, [&](__m512i row) {
      row_sums.add(0, widen_lanes(vhalf(_mm512_maskz_extracti64x4_epi64(255, row, 0))));
      row_sums.add(1, widen_lanes(vhalf(_mm512_maskz_extracti64x4_epi64(255, row, 1))));
    });
    row_sums.end();
  }
};

// All phases as one, with the rows and columns of the largest, and with the taps of all, one phase after the other.
Phase joined(const std::vector<Phase>& phases) {
  Phase all = phases[0];
  for (size_t i = 1; i < phases.size(); i++) {
    all.rows = std::max(all.rows, phases[i].rows), all.columns = std::max(all.columns, phases[i].columns);
    all.taps.insert(all.taps.end(), phases[i].taps.begin(), phases[i].taps.end());
  }
  return all;
}

// The whole gather. A chunk has some segments, whose copied pixels serve all phases. Where input and result pixels are the same (1x1, stride
// 1), a chunk has some pixels, which are read where they are.
template <class Units>
void gather(Context& context, bfloat16* out, ChannelSums* sums, const bfloat16* in, const bfloat16* weight, const Gather& whole,
            const std::vector<Phase>& phases) {
  const int64_t pixels_out = whole.batch * whole.out_h * whole.out_w;
  if (pixels_out == 0) return;
  const Phase whole_phase = joined(phases);
  const bool patches = phases.size() == 1 && takes_patches(whole, whole_phase);
  const Patches patch(whole, whole_phase);
  const auto [g, all] = patches ? patch.as_channels() : std::pair(whole, whole_phase);
  const int64_t panels = ceil_div(g.width, block), steps = ceil_div(g.depth, unit_depth), taps = int64_t(all.taps.size());
  const int64_t tap_size = steps * 2 * unit_size;
  Pair* packed = static_cast<Pair*>(context.scratch(size_t(std::max<int64_t>(1, g.groups * panels * taps * tap_size)) * 4));
  pack_weight(context, packed, weight, g, all);
  const bool streaming = g.width % block == 0 && worth_streaming(out, pixels_out, g.groups * g.width);

  const bool in_place = taps == 1 && phases.size() == 1 && all.in_step == 1 && all.taps[0].y == 0 && all.taps[0].x == 0 &&
                        all.rows == g.in_h && all.columns == g.in_w && g.depth % unit_depth == 0 && pixels_out >= unit_side && !patches;
  const int64_t columns = g.groups * g.width + block;
  if (in_place) {
    constexpr int64_t pixels_at_once = 512;
    if (sums) sums->begin(ceil_div(pixels_out, pixels_at_once));
    return parallel_for(context, pixels_out, pixels_at_once, [&](int64_t begin, int64_t end) {
      Chunk<Units> chunk;
      if (sums) chunk.column_sums = ChannelSums::rows(columns);
      for (int64_t p = begin; p < end; p += unit_side) {
        const int64_t from = std::min(p, pixels_out - unit_side);  // no tile reads past the end
        chunk.tiles.push_back({from, p - begin});
        for (int64_t r = from; r < from + unit_side; r++) chunk.results.push_back(r < p ? nullptr : out + r * g.groups * g.width);
      }
      constexpr int64_t here = 0;
      for (int64_t group = 0; group < g.groups; group++) {
        chunk.multiply(in + group * g.depth, g.in_c, &here, 1, steps, packed + group * panels * tap_size, tap_size, group * g.width,
                       g.width, streaming);
        if (sums) sums->leave(begin / pixels_at_once, group * g.width, g.width, chunk.column_sums, group * g.width, end - begin);
      }
      if (streaming) end_streaming();
    });
  }

  // Positions that lie an even number of cache lines apart, six or more, would use only some of the cache sets: one line is left free then.
  // Patches lie without gaps.
  const int64_t row = steps * unit_depth + (!patches && steps % 2 == 0 && steps > 4 ? unit_depth : 0);
  const Grid grid(g, all, std::max<int64_t>(256, 131072 / row));
  const int64_t positions = grid.positions();
  const int64_t at_once = std::max<int64_t>(1, std::min(512 / grid.results, cached / (std::max<int64_t>(1, positions) * row)));
  const std::vector<bfloat16> zero(size_t(g.groups * g.depth + block), bfloat16(0.0f));
  if (sums) sums->begin(ceil_div(grid.segments, at_once));
  parallel_for(context, grid.segments, at_once, [&](int64_t begin, int64_t end) {
    Chunk<Units> chunk;
    if (sums) chunk.column_sums = ChannelSums::rows(columns);
    chunk.results.resize(size_t((end - begin) * grid.results));
    std::vector<const bfloat16*> pixels(size_t((end - begin) * positions));
    bfloat16* copied = reinterpret_cast<bfloat16*>(thread_memory<Slot::operand>(((end - begin) * positions + grid.beyond) * row / 2));
    for (int64_t s = begin; s < end; s++) {
      const int64_t first_line = s % grid.per_image * grid.lines, lines = std::min(grid.lines, all.rows - first_line);
      const int64_t position = (s - begin) * positions;
      if (!patches) grid.point(s, pixels.data() + position, in, zero.data(), g);
      else
        for (int64_t i = 0; i < lines; i++)
          patch.make(copied + (position + i * grid.pitch) * row, in, s / grid.per_image, first_line + i);
      for (int64_t p = 0; p < lines * grid.pitch; p += unit_side) chunk.tiles.push_back({position + p, (s - begin) * grid.results + p});
    }
    for (int64_t group = 0; group < g.groups; group++) {
      if (!patches)
        for (int64_t p = 0; p < (end - begin) * positions; p++) {
          const bfloat16* from = pixels[size_t(p)] + group * g.depth;
          for (int64_t d = 0; d < g.depth; d += unit_depth)
            _mm512_storeu_si512(copied + p * row + d, _mm512_maskz_loadu_epi16(first_of(g.depth - d), from + d));
        }
      int64_t tap = 0;
      for (const Phase& phase : phases) {
        for (int64_t s = begin; s < end; s++)
          grid.point_results(s, chunk.results.data() + (s - begin) * grid.results, out, static_cast<bfloat16*>(nullptr), g, phase);
        const int64_t count = patches ? 1 : int64_t(phase.taps.size());
        chunk.multiply(copied, row, grid.offset.data() + tap, count, steps, packed + (group * panels * taps + tap) * tap_size,
                       taps * tap_size, group * g.width, g.width, streaming);
        tap += count;
      }
      if (sums)
        sums->leave(begin / at_once, group * g.width, g.width, chunk.column_sums, group * g.width,
                    std::count_if(chunk.results.begin(), chunk.results.end(), [](const bfloat16* p) { return p != nullptr; }));
    }
    if (streaming) end_streaming();
  });
}

}  // namespace

bool matrix_suits(const Convolution& s) {
  const bool wide = s.group_channels() >= unit_side && s.group_out_channels() >= unit_side;
  return matrix_units() != MatrixUnits::none && !s.depthwise() && (s.groups == 1 || wide);
}

void matrix_conv_forward(Context& context, bfloat16* y, ChannelSums* sums, const bfloat16* x, const bfloat16* weight, const Convolution& s) {
  const auto [whole, phase] = forward_gather(s);
  with_units([&]<class Units>() { gather<Units>(context, y, sums, x, weight, whole, {phase}); });
}

void matrix_conv_backward_data(Context& context, bfloat16* dx, const bfloat16* dy, const bfloat16* weight, const Convolution& s) {
  const auto [whole, phases] = backward_gather(s);
  with_units([&]<class Units>() { gather<Units>(context, dx, nullptr, dy, weight, whole, phases); });
}

}  // namespace turl

#else

namespace turl {

bool matrix_suits(const Convolution&) { return false; }
void matrix_conv_forward(Context&, bfloat16*, ChannelSums*, const bfloat16*, const bfloat16*, const Convolution&) {}
void matrix_conv_backward_data(Context&, bfloat16*, const bfloat16*, const bfloat16*, const Convolution&) {}

}  // namespace turl
#endif
