// The weight's gradient of convolutions in bfloat16 on matrix units (matrix_units.h); positions as in conv_matrix.cpp. It is a sum over
// positions. So dy is transposed, and x is packed in pairs of neighbouring positions: twice, with pairs that begin at even positions and at
// odd ones, since the pixel of a tap may lie an odd number of positions further.
#include "cpu/channels.h"
#include "cpu/conv_fast.h"
#include "cpu/conv_positions.h"
#include "cpu/parallel.h"

#if defined(__AVX512BW__)

namespace turl {
namespace {

constexpr int64_t block = unit_block;

// sums [32][32] (+)= the sum over some segments of dy [32 rows, positions] times x [positions, 32 columns]; `fresh` sums begin at zero.
template <class Units>
__attribute__((noinline)) void outer_product(Units& unit, float* sums, bool fresh, const bfloat16* dy, int64_t dy_row,
                                             int64_t results, const Pair* x, int64_t x_segment, int64_t segments) {
  Units::fence();
  if (fresh) zero_sums(unit);
  else load_sums(unit, sums, block);
  for (int64_t s = 0; s < segments; s++) {
    const Pair* right = x + s * x_segment;
    for (int64_t q = 0; q < results; q += unit_depth, dy += unit_depth, right += unit_side * block)
      multiply_four(unit, dy, dy + unit_side * dy_row, dy_row * 2, right, right + unit_side, block * 4);
  }
  store_sums(unit, sums, block);
}

template <class Units>
void backward_weight(Context& context, float* dweight, const bfloat16* dy, const bfloat16* x, const Convolution& s) {
  const auto [whole, all_taps] = forward_gather(s);
  if (s.batch * all_taps.rows * all_taps.columns == 0) return std::fill(dweight, dweight + s.weight_size(), 0.0f);
  const bool patches = few_channels(whole.depth, whole.groups);
  const Patches patch(whole, all_taps);
  const auto [g, phase] = patches ? patch.as_channels() : std::pair(whole, all_taps);
  const Grid grid(g, phase, 1024);
  const int64_t taps = int64_t(phase.taps.size()), positions = grid.positions();
  const bool from_odd = std::ranges::any_of(grid.offset, [](int64_t offset) { return offset % 2 != 0; });
  const int64_t out_blocks = ceil_div(g.width, block), in_blocks = ceil_div(g.depth, block);
  // A chunk computes some blocks of output x input channels over a part of the segments, `at_once` of them at a time.
  const int64_t outs = std::min<int64_t>(out_blocks, 4), ins = std::min<int64_t>(in_blocks, 4);
  const int64_t out_ranges = ceil_div(out_blocks, outs), in_ranges = ceil_div(in_blocks, ins);
  const int64_t ranges = g.groups * out_ranges * in_ranges, at_once = std::max<int64_t>(1, 1024 / grid.results);
  const int64_t wanted = std::clamp<int64_t>(16 / ranges, 1, ceil_div(grid.segments, at_once));
  const int64_t part = round_up(ceil_div(grid.segments, wanted), at_once), parts = ceil_div(grid.segments, part);
  const int64_t part_size = g.groups * out_blocks * in_blocks * taps * unit_block_size;
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
    bfloat16* transposed = reinterpret_cast<bfloat16*>(thread_memory<Slot::operand>(outs * block * dy_row / 2));
    Pair* packed = reinterpret_cast<Pair*>(thread_memory<Slot::other_operand>(ins * 2 * x_size));
    bfloat16* patched = reinterpret_cast<bfloat16*>(thread_memory<Slot::sums>(patches ? at_once * positions * patch.length / 2 : 1));
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
          transpose_block(transposed + (b - first_out) * block * dy_row + q, dy_row, gradients.data() + q, group * g.width + b * block,
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
            outer_product(unit, partial + chunk / ranges * part_size + index * unit_block_size, at == begin,
                          transposed + (o - first_out) * block * dy_row, dy_row, grid.results,
                          packed + ((c - first_in) * 2 + offset % 2) * x_size + offset / 2 * block, positions / 2 * block, segments);
          }
    }
  });

  // The parts are added in order. A block is one run of memory in each part; only dweight is written in short runs.
  parallel_for(context, g.groups * out_blocks * in_blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; item++) {
      const int64_t first_row = item / in_blocks % out_blocks * block, first = item % in_blocks * block;
      const int64_t o = item / in_blocks / out_blocks * g.width + first_row;
      const int64_t rows = std::min(block, g.width - first_row), columns = std::min(block, g.depth - first);
      for (int64_t t = 0; t < taps; t++)
        for (int64_t r = 0; r < rows; r++)
          for (int64_t half = 0; half * unit_side < columns; half++) {
            const float* in = partial + (item * taps + t) * unit_block_size + r * block + half * unit_side;
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

void matrix_conv_backward_weight(Context& context, float* dweight, const bfloat16* dy, const bfloat16* x, const Convolution& s) {
  with_units([&]<class Units>() { backward_weight<Units>(context, dweight, dy, x, s); });
}

}  // namespace turl

#else

namespace turl {

void matrix_conv_backward_weight(Context&, float*, const bfloat16*, const bfloat16*, const Convolution&) {}

}  // namespace turl
#endif
