// Convolutions in bfloat16 on matrix units (matrix_units.h); shapes and formula in convolution.h. Sums are float32; results are
// rounded once.
//
// Tiles want rows that lie the same distance apart. So the pixels that a chunk of the result meets are copied with zeros around them
// into one row of positions (Grid): a result pixel is a position too, and the input pixel of a tap lies the same number of positions
// further for all of them. Positions between two lines of the result are computed in vain: 1 of 57 at 56x56, 1 of 8 at 7x7.
//
// Forward and the image's gradient multiply [positions, channels] by the weight of each tap. The weight's gradient sums over
// positions: dy is transposed, x is packed in pairs of neighbouring positions, twice, from even positions and from odd ones, since a
// tap may be an odd number of positions away. Where a pixel has few channels (the first layer), whole patches take their place.
#include <algorithm>
#include <vector>
#include "cpu/bfloat16_rows.h"
#include "cpu/channels.h"
#include "cpu/conv_fast.h"
#include "cpu/conv_gather.h"
#include "cpu/matrix_units.h"
#include "cpu/parallel.h"

#if defined(__AVX512BW__)

namespace turl {
namespace {

constexpr int64_t block = 2 * unit_side;  // result rows and columns of the four tiles of sums that are computed together
constexpr int64_t block_size = block * block, unit_size = unit_side * unit_side;
constexpr int64_t cached = 512 * 1024;  // values that stay in the second-level cache beside the weight

// Of a pixel's patch: taps x channels that are copied side by side.
bool few(int64_t depth, int64_t groups) { return depth < 8 && groups == 1; }

// Positions: those of a segment, some lines of one image of the result, from 0 on; line i, column j at i pitch + j. Input pixels lie
// in planes, one for each pixel of a stride x stride square, so that the tap's pixel is offset[tap] positions further.
struct Grid {
  struct Plane {
    int64_t y, x;  // pixels (step i + y, step j + x) of the input
  };
  int64_t step, pitch, lines, per_image, segments;
  int64_t left = 0, first = 0, in_lines;  // zeros before the first line; the first input line of result line 0; lines of a plane
  int64_t plane_size, results;            // positions of a plane, an even number, and of the result, a multiple of unit_depth
  int64_t beyond;                         // positions that may be read after those of the last segment
  std::vector<Plane> planes;
  std::vector<int64_t> offset;

  // Segments of about `most` positions, whole images at most.
  Grid(const Gather& g, const Phase& phase, int64_t most) : step(phase.in_step) {
    struct Place {
      int64_t plane, y, x;
    };
    std::vector<Place> places;
    const auto below = [&](int64_t i) { return i >= 0 ? i / step : -divide_up(-i, step); };
    int64_t last = 0, width = phase.columns;
    for (const Tap& tap : phase.taps) {
      const Place at{0, below(tap.y), below(tap.x)};
      const Plane plane{tap.y - at.y * step, tap.x - at.x * step};
      int64_t index = 0;
      while (index < int64_t(planes.size()) && (planes[size_t(index)].y != plane.y || planes[size_t(index)].x != plane.x)) index++;
      if (index == int64_t(planes.size())) planes.push_back(plane);
      first = places.empty() ? at.y : std::min(first, at.y), last = places.empty() ? at.y : std::max(last, at.y);
      left = std::max(left, -at.x), width = std::max(width, at.x + phase.columns);
      places.push_back({index, at.y, at.x});
    }
    for (const Plane& plane : planes) width = std::max(width, columns_of(plane, g) + left);
    pitch = width;
    per_image = divide_up(phase.rows, std::max<int64_t>(1, most / pitch));
    lines = divide_up(phase.rows, per_image);
    per_image = divide_up(phase.rows, lines);
    segments = g.batch * per_image;
    in_lines = lines + last - first;
    results = round_up(lines * pitch, unit_depth);
    plane_size = round_up(left + in_lines * pitch, 2);
    beyond = pitch + unit_depth;
    for (const Place& at : places) offset.push_back(at.plane * plane_size + (at.y - first) * pitch + at.x + left);
  }

  int64_t columns_of(const Plane& plane, const Gather& g) const { return divide_up(g.in_w - plane.x, step); }
  int64_t positions() const { return int64_t(planes.size()) * plane_size; }

  // The input pixels at the positions() of a segment; `zero` where there is none.
  void point(int64_t segment, const bfloat16** pixels, const bfloat16* in, const bfloat16* zero, const Gather& g) const {
    const int64_t image = segment / per_image, line = segment % per_image * lines + first;
    std::fill(pixels, pixels + positions(), zero);
    for (size_t p = 0; p < planes.size(); p++)
      for (int64_t i = 0; i < in_lines; i++) {
        const int64_t y = (line + i) * step + planes[p].y, columns = columns_of(planes[p], g);
        const bfloat16** at = pixels + int64_t(p) * plane_size + left + i * pitch;
        const bfloat16* row = in + ((image * g.in_h + y) * g.in_w + planes[p].x) * g.in_c;
        if (y >= 0 && y < g.in_h)
          for (int64_t j = 0; j < columns; j++) at[j] = row + j * step * g.in_c;
      }
  }
  // The pixels of the result at the `results` of a segment; `none` where there is none.
  template <class T> void point_results(int64_t segment, T** pixels, T* out, T* none, const Gather& g, const Phase& phase) const {
    const int64_t image = segment / per_image, line = segment % per_image * lines;
    std::fill(pixels, pixels + results, none);
    for (int64_t i = line; i < std::min(phase.rows, line + lines); i++) {
      T* row = out + ((image * g.out_h + phase.out_y + i * phase.out_step) * g.out_w + phase.out_x) * g.groups * g.width;
      for (int64_t j = 0; j < phase.columns; j++)
        pixels[(i - line) * pitch + j] = row + j * phase.out_step * g.groups * g.width;
    }
  }
};

// A convolution whose patches are the channels of a 1x1 one: the pixels of a segment are patches of `length` values, multiples of
// unit_depth, that are made here.
struct Patches {
  const Gather& g;
  const Phase& phase;
  int64_t depth, length;

  Patches(const Gather& g, const Phase& phase)
      : g(g), phase(phase), depth(int64_t(phase.taps.size()) * g.depth), length(round_up(depth, unit_depth)) {}

  // The 1x1 convolution of the patches.
  std::pair<Gather, Phase> as_channels() const {
    std::pair<Gather, Phase> same{g, phase};
    same.first.depth = depth, same.first.in_c = length, same.first.in_h = phase.rows, same.first.in_w = phase.columns;
    same.second.in_step = 1, same.second.taps = {{0, 0, 0}};
    return same;
  }

  // The patches of the result pixels of a line of the result, one after the other. The taps of a line of the kernel lie side by side.
  void make(bfloat16* to, const bfloat16* in, int64_t image, int64_t line) const {
    const int64_t taps = int64_t(phase.taps.size());
    memset(to, 0, size_t(phase.columns * length) * 2);
    for (int64_t t = 0, run; t < taps; t += run) {
      const Tap& tap = phase.taps[size_t(t)];
      run = 1;
      while (t + run < taps && phase.taps[size_t(t + run)].y == tap.y) run++;
      const int64_t y = line * phase.in_step + tap.y;
      if (y < 0 || y >= g.in_h) continue;
      const bfloat16* row = in + (image * g.in_h + y) * g.in_w * g.in_c;
      for (int64_t j = 0; j < phase.columns; j++) {
        const int64_t x = j * phase.in_step + tap.x;  // taps [from, to_tap) of the run lie in the image
        const int64_t from = std::clamp<int64_t>(-x, 0, run), to_tap = std::clamp(g.in_w - x, from, run);
        bfloat16* out = to + j * length + (t + from) * g.depth;
        const int64_t n = (to_tap - from) * g.depth;
        const bfloat16* pixel = row + (x + from) * g.in_c;
        for (int64_t k = 0; k < n; k += tile_columns)
          _mm512_mask_storeu_epi16(out + k, first_of(n - k), _mm512_maskz_loadu_epi16(first_of(n - k), pixel + k));
      }
    }
  }
};

// The weight of each column panel, tap and unit_depth channels, as two tiles of pairs.
void pack_weight(Context& context, Pair* packed, const bfloat16* weight, const Gather& g, const Phase& phase) {
  const int64_t panels = divide_up(g.width, block), steps = divide_up(g.depth, unit_depth), taps = int64_t(phase.taps.size());
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
            vfloat rows[lanes] = {};  // of 16 pairs, turned into the pairs of 16 columns
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
            if (2 * r + 1 == count)  // the odd one has no neighbour
              for (int64_t j = 0; j < block; j++)
                out[j / unit_side * unit_size + r * unit_side + j % unit_side].second = bfloat16(0.0f);
          }
        }
      }
    }
  });
}

// Asks the first-level cache for 32 lines that products want soon: 4 to 11 % of the time of deep layers, and of the weight's gradient.
template <class T> inline void fetch(const T* lines, int64_t step) {
#pragma GCC unroll 32
  for (int64_t i = 0; i < 32; i++) __builtin_prefetch(lines + i * step);
}

// sums [2][2][16][16] = for two tiles of rows, from a and from b on, the sum over taps and `steps` times unit_depth channels.
template <class Units>
__attribute__((noinline)) void product(Units& unit, float* sums, const bfloat16* a, const bfloat16* b, int64_t row,
                                       const int64_t* offset, int64_t taps, int64_t steps, const Pair* panel) {
  constexpr int64_t pairs = unit_side * 4;
  Units::fence();
  unit.template zero<0>(), unit.template zero<1>(), unit.template zero<2>(), unit.template zero<3>();
  for (int64_t t = 0; t < taps; t++) {
    const bfloat16 *p = a + offset[t] * row, *q = b + offset[t] * row;
    for (int64_t k = 0; k < steps; k++, p += unit_depth, q += unit_depth, panel += 2 * unit_size) {
      fetch(panel + 4 * unit_size, unit_side);
      unit.template load<6>(panel, pairs);
      unit.template load<4>(p, row * 2);
      unit.template multiply<0, 4, 6>();
      unit.template load<7>(panel + unit_size, pairs);
      unit.template multiply<1, 4, 7>();
      unit.template load<5>(q, row * 2);
      unit.template multiply<2, 5, 6>();
      unit.template multiply<3, 5, 7>();
    }
  }
  unit.template store<0>(sums, pairs), unit.template store<1>(sums + unit_size, pairs);
  unit.template store<2>(sums + 2 * unit_size, pairs), unit.template store<3>(sums + 3 * unit_size, pairs);
}

// The tiles of a chunk, two at a time, times the weight of a column panel: results from channel `first` of those pixels that are there.
template <class Units> struct Chunk {
  struct Tile {
    int64_t position, result;
  };
  Units unit;
  std::vector<Tile> tiles;
  std::vector<bfloat16*> results;  // pixels; null where there is none

  void multiply(const bfloat16* pixels, int64_t row, const int64_t* offset, int64_t taps, int64_t steps, const Pair* panel,
                int64_t first, int64_t columns, bool past) {
    alignas(64) float sums[4 * unit_size];
    const size_t count = tiles.size();
    for (size_t t = 0; t < count; t += 2) {
      const size_t second = std::min(t + 1, count - 1);  // the last of an odd number goes with itself
      product(unit, sums, pixels + tiles[t].position * row, pixels + tiles[second].position * row, row, offset, taps, steps,
              panel);
      for (size_t half = 0; t + half <= second; half++) {
        bfloat16* const* to = results.data() + tiles[t + half].result;
        const float* from = sums + half * 2 * unit_size;
        for (int64_t r = 0; r < unit_side; r++) {
          const __m512i row = Units::round(load(from + r * unit_side), load(from + unit_size + r * unit_side));
          if (to[r]) store_row(to[r] + first, row, columns, past);
        }
      }
    }
  }
};

// All phases as one: as many rows and columns as the largest, and the taps of one after those of the other.
Phase joined(const std::vector<Phase>& phases) {
  Phase all = phases[0];
  for (size_t i = 1; i < phases.size(); i++) {
    all.rows = std::max(all.rows, phases[i].rows), all.columns = std::max(all.columns, phases[i].columns);
    all.taps.insert(all.taps.end(), phases[i].taps.begin(), phases[i].taps.end());
  }
  return all;
}

// A gather. A chunk has some segments, whose copied pixels serve all phases; where every pixel is its own result (1x1), some pixels, read
// where they are.
template <class Units>
void gather(Context& context, bfloat16* out, const bfloat16* in, const bfloat16* weight, const Gather& whole,
            const std::vector<Phase>& phases) {
  const int64_t pixels_out = whole.batch * whole.out_h * whole.out_w;
  if (pixels_out == 0) return;
  const Phase whole_phase = joined(phases);
  const bool patches = few(whole.depth, whole.groups) && whole.d_step == 1 && phases.size() == 1 && !whole_phase.taps.empty();
  const Patches patch(whole, whole_phase);
  const auto [g, all] = patches ? patch.as_channels() : std::pair(whole, whole_phase);
  const int64_t panels = divide_up(g.width, block), steps = divide_up(g.depth, unit_depth), taps = int64_t(all.taps.size());
  const int64_t tap_size = steps * 2 * unit_size;
  Pair* packed = static_cast<Pair*>(context.scratch(size_t(std::max<int64_t>(1, g.groups * panels * taps * tap_size)) * 4));
  pack_weight(context, packed, weight, g, all);
  const bool past = g.width % block == 0 && worth_streaming(out, pixels_out, g.groups * g.width);

  const bool in_place = taps == 1 && phases.size() == 1 && all.in_step == 1 && all.taps[0].y == 0 && all.taps[0].x == 0 &&
                        all.rows == g.in_h && all.columns == g.in_w && g.depth % unit_depth == 0 && pixels_out >= unit_side && !patches;
  if (in_place)
    return parallel_for(context, pixels_out, 512, [&](int64_t begin, int64_t end) {
      Chunk<Units> chunk;
      for (int64_t p = begin; p < end; p += unit_side) {
        const int64_t from = std::min(p, pixels_out - unit_side);  // no tile reads past the end
        chunk.tiles.push_back({from, p - begin});
        for (int64_t r = from; r < from + unit_side; r++) chunk.results.push_back(r < p ? nullptr : out + r * g.groups * g.width);
      }
      constexpr int64_t here = 0;
      for (int64_t n = 0; n < g.groups * panels; n++) {
        const int64_t group = n / panels, first = n % panels * block;
        chunk.multiply(in + group * g.depth, g.in_c, &here, 1, steps, packed + n * tap_size, group * g.width + first,
                       std::min(block, g.width - first), past);
      }
      if (past) end_streaming();
    });

  // An even number of cache lines from one position to the next uses few cache sets once it is more than four.
  const int64_t row = steps * unit_depth + (steps % 2 == 0 && steps > 4 ? unit_depth : 0);
  const Grid grid(g, all, std::max<int64_t>(256, 131072 / row));
  const int64_t positions = grid.positions();
  const int64_t at_once = std::max<int64_t>(1, std::min(512 / grid.results, cached / (std::max<int64_t>(1, positions) * row)));
  const std::vector<bfloat16> zero(size_t(g.groups * g.depth + block), bfloat16(0.0f));
  parallel_for(context, grid.segments, at_once, [&](int64_t begin, int64_t end) {
    Chunk<Units> chunk;
    chunk.results.resize(size_t((end - begin) * grid.results));
    std::vector<const bfloat16*> pixels(size_t((end - begin) * positions));
    bfloat16* copied = reinterpret_cast<bfloat16*>(thread_memory<0>(((end - begin) * positions + grid.beyond) * row / 2));
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
        for (int64_t panel = 0; panel < panels; panel++) {
          const int64_t first = panel * block;
          const Pair* weights = packed + ((group * panels + panel) * taps + tap) * tap_size;
          chunk.multiply(copied, row, grid.offset.data() + tap, count, steps, weights, group * g.width + first,
                         std::min(block, g.width - first), past);
        }
        tap += count;
      }
    }
    if (past) end_streaming();
  });
}

// dy of 32 positions and 32 channels, turned: to [channel][position], `row` apart.
void transpose_block(bfloat16* to, int64_t row, const bfloat16* const* pixels, int64_t first, int64_t channels) {
  alignas(64) Pair pairs[2][lanes][lanes];  // [half of the channels][pair of positions][channel]
  for (int64_t p = 0; p < lanes; p++)
    interleave(pairs[0][p], pixels[2 * p] + first, pixels[2 * p + 1] + first, first_of(channels), 0, lanes * lanes);
  for (int64_t half = 0; half < 2; half++) {
    vfloat rows[lanes];
    for (int64_t p = 0; p < lanes; p++) rows[p] = load(reinterpret_cast<float*>(pairs[half][p]));
    transpose(rows);
    for (int64_t c = 0; c < lanes; c++) store(reinterpret_cast<float*>(to + (half * lanes + c) * row), rows[c]);
  }
}

// sums [2][2][16][16] += over some segments, dy [32 rows, positions] by x [positions, 32 columns]; `fresh` sums begin at zero.
template <class Units>
__attribute__((noinline)) void outer_product(Units& unit, float* sums, bool fresh, const bfloat16* dy, int64_t dy_row,
                                             int64_t results, const Pair* x, int64_t x_segment, int64_t segments) {
  constexpr int64_t pairs = unit_side * 4;
  Units::fence();
  if (fresh) {
    unit.template zero<0>(), unit.template zero<1>(), unit.template zero<2>(), unit.template zero<3>();
  } else {
    unit.template load<0>(sums, pairs), unit.template load<1>(sums + unit_size, pairs);
    unit.template load<2>(sums + 2 * unit_size, pairs), unit.template load<3>(sums + 3 * unit_size, pairs);
  }
  for (int64_t s = 0; s < segments; s++) {
    const Pair* right = x + s * x_segment;
    for (int64_t q = 0; q < results; q += unit_depth, dy += unit_depth, right += unit_side * block) {
      fetch(right + 2 * unit_side * block, unit_side);
      fetch(dy + 2 * unit_depth, dy_row);
      unit.template load<6>(right, block * 4);
      unit.template load<4>(dy, dy_row * 2);
      unit.template multiply<0, 4, 6>();
      unit.template load<7>(right + unit_side, block * 4);
      unit.template multiply<1, 4, 7>();
      unit.template load<5>(dy + unit_side * dy_row, dy_row * 2);
      unit.template multiply<2, 5, 6>();
      unit.template multiply<3, 5, 7>();
    }
  }
  unit.template store<0>(sums, pairs), unit.template store<1>(sums + unit_size, pairs);
  unit.template store<2>(sums + 2 * unit_size, pairs), unit.template store<3>(sums + 3 * unit_size, pairs);
}

template <class Units>
void backward_weight(Context& context, float* dweight, const bfloat16* dy, const bfloat16* x, const Convolution& s) {
  const auto [whole, all_taps] = forward_gather(s);
  if (s.batch * all_taps.rows * all_taps.columns == 0) return std::fill(dweight, dweight + s.weight_size(), 0.0f);
  const bool patches = few(whole.depth, whole.groups);
  const Patches patch(whole, all_taps);
  const auto [g, phase] = patches ? patch.as_channels() : std::pair(whole, all_taps);
  const Grid grid(g, phase, 1024);
  const int64_t taps = int64_t(phase.taps.size()), positions = grid.positions();
  const bool from_odd = std::ranges::any_of(grid.offset, [](int64_t offset) { return offset % 2 != 0; });
  const int64_t out_blocks = divide_up(g.width, block), in_blocks = divide_up(g.depth, block);
  // A chunk takes a part of the segments, some at a time, for some blocks of output and input channels.
  const int64_t outs = std::min<int64_t>(out_blocks, 8), ins = std::min<int64_t>(in_blocks, 4);
  const int64_t out_ranges = divide_up(out_blocks, outs), in_ranges = divide_up(in_blocks, ins);
  const int64_t ranges = g.groups * out_ranges * in_ranges, at_once = std::max<int64_t>(1, 1024 / grid.results);
  const int64_t wanted = std::clamp<int64_t>(16 / ranges, 1, divide_up(grid.segments, at_once));
  const int64_t part = round_up(divide_up(grid.segments, wanted), at_once), parts = divide_up(grid.segments, part);
  const int64_t part_size = g.groups * out_blocks * in_blocks * taps * block_size;
  float* partial = static_cast<float*>(context.scratch(size_t(parts * part_size) * 4));
  const std::vector<bfloat16> zero(size_t(std::max(s.channels, s.out_channels) + patch.length + block), bfloat16(0.0f));

  parallel_chunks(context, parts * ranges, [&](int64_t chunk) {
    Units unit;
    const int64_t group = chunk / (out_ranges * in_ranges) % g.groups, begin = chunk / ranges * part;
    const int64_t first_out = chunk / in_ranges % out_ranges * outs, out_end = std::min(out_blocks, first_out + outs);
    const int64_t first_in = chunk % in_ranges * ins, in_end = std::min(in_blocks, first_in + ins);
    std::vector<const bfloat16*> pixels(size_t(at_once * positions + grid.beyond), zero.data());
    std::vector<const bfloat16*> gradients(size_t(at_once * grid.results));
    const int64_t dy_row = at_once * grid.results + (at_once * grid.results / unit_depth % 2 == 0 ? unit_depth : 0);
    const int64_t x_size = (at_once * positions / 2 + grid.beyond) * block;  // pairs of one copy of a block of channels
    bfloat16* turned = reinterpret_cast<bfloat16*>(thread_memory<0>(outs * block * dy_row / 2));
    Pair* packed = reinterpret_cast<Pair*>(thread_memory<1>(ins * 2 * x_size));
    bfloat16* patched = reinterpret_cast<bfloat16*>(thread_memory<2>(patches ? at_once * positions * patch.length / 2 : 1));
    for (int64_t at = begin; at < std::min(grid.segments, begin + part); at += at_once) {
      const int64_t segments = std::min({at_once, grid.segments - at, begin + part - at});
      for (int64_t i = 0; i < segments; i++) {
        const int64_t image = (at + i) / grid.per_image, line = (at + i) % grid.per_image * grid.lines;
        grid.point_results(at + i, gradients.data() + i * grid.results, dy, zero.data(), g, phase);
        if (!patches) grid.point(at + i, pixels.data() + i * positions, x, zero.data(), g);
        else {
          std::fill_n(pixels.data() + i * positions, positions, zero.data());
          for (int64_t l = 0; l < std::min(grid.lines, phase.rows - line); l++) {
            bfloat16* to = patched + (i * positions + l * grid.pitch) * patch.length;
            patch.make(to, x, image, line + l);
            for (int64_t j = 0; j < grid.pitch; j++) pixels[size_t(i * positions + l * grid.pitch + j)] = to + j * patch.length;
          }
        }
      }
      for (int64_t b = first_out; b < out_end; b++)
        for (int64_t q = 0; q < segments * grid.results; q += unit_depth)
          transpose_block(turned + (b - first_out) * block * dy_row + q, dy_row, gradients.data() + q, group * g.width + b * block,
                          g.width - b * block);
      for (int64_t b = first_in; b < in_end; b++) {
        Pair *even = packed + (b - first_in) * 2 * x_size, *odd = even + x_size;
        const __mmask32 mask = first_of(g.depth - b * block);
        const int64_t c = group * g.depth + b * block;
        for (int64_t p = 0; p + 2 < segments * positions + grid.beyond; p += 2, even += block, odd += block) {
          interleave(even, pixels[size_t(p)] + c, pixels[size_t(p + 1)] + c, mask);
          if (from_odd) interleave(odd, pixels[size_t(p + 1)] + c, pixels[size_t(p + 2)] + c, mask);
        }
      }
      for (int64_t o = first_out; o < out_end; o++)
        for (int64_t c = first_in; c < in_end; c++)
          for (int64_t t = 0; t < taps; t++) {
            const int64_t offset = grid.offset[size_t(t)];
            const int64_t index = ((group * out_blocks + o) * in_blocks + c) * taps + t;
            outer_product(unit, partial + chunk / ranges * part_size + index * block_size, at == begin,
                          turned + (o - first_out) * block * dy_row, dy_row, grid.results,
                          packed + ((c - first_in) * 2 + offset % 2) * x_size + offset / 2 * block, positions / 2 * block, segments);
          }
    }
  });

  // The parts are added in order. A block lies in one piece in each, so that only dweight is met in small ones.
  parallel_for(context, g.groups * out_blocks * in_blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; item++) {
      const int64_t first_row = item / in_blocks % out_blocks * block, first = item % in_blocks * block;
      const int64_t o = item / in_blocks / out_blocks * g.width + first_row;
      const int64_t rows = std::min(block, g.width - first_row), columns = std::min(block, g.depth - first);
      for (int64_t t = 0; t < taps; t++)
        for (int64_t r = 0; r < rows; r++)
          for (int64_t half = 0; half * unit_side < columns; half++) {
            const int64_t tile = r / unit_side * 2 + half;
            const float* in = partial + (item * taps + t) * block_size + tile * unit_size + r % unit_side * unit_side;
            vfloat sum = load(in);
            for (int64_t part = 1; part < parts; part++) sum += load(in + part * part_size);
            float* out = dweight + ((o + r) * taps + t) * g.depth + first + half * unit_side;
            const int64_t n = columns - half * unit_side;
            if (n >= unit_side) store(out, sum);
            else store(out, sum, int(n));
          }
    }
  });
}

}  // namespace

bool matrix_suits(const Convolution& s) {
  const bool wide = s.group_channels() >= unit_side && s.group_out_channels() >= unit_side;
  return matrix_units() != MatrixUnits::none && !s.depthwise() && (s.groups == 1 || wide);
}

void matrix_conv_forward(Context& context, bfloat16* y, const bfloat16* x, const bfloat16* weight, const Convolution& s) {
  const auto [whole, phase] = forward_gather(s);
  with_units([&]<class Units>() { gather<Units>(context, y, x, weight, whole, {phase}); });
}

void matrix_conv_backward_data(Context& context, bfloat16* dx, const bfloat16* dy, const bfloat16* weight, const Convolution& s) {
  const auto [whole, phases] = backward_gather(s);
  with_units([&]<class Units>() { gather<Units>(context, dx, dy, weight, whole, phases); });
}

void matrix_conv_backward_weight(Context& context, float* dweight, const bfloat16* dy, const bfloat16* x, const Convolution& s) {
  with_units([&]<class Units>() { backward_weight<Units>(context, dweight, dy, x, s); });
}

}  // namespace turl

#else

namespace turl {

bool matrix_suits(const Convolution&) { return false; }
void matrix_conv_forward(Context&, bfloat16*, const bfloat16*, const bfloat16*, const Convolution&) {}
void matrix_conv_backward_data(Context&, bfloat16*, const bfloat16*, const bfloat16*, const Convolution&) {}
void matrix_conv_backward_weight(Context&, float*, const bfloat16*, const bfloat16*, const Convolution&) {}

}  // namespace turl
#endif
