// The weight's gradient of 3x3 convolutions of bfloat16 with stride 1 and padding 1 on the matrix units of sm_90a. What a block copies of x
// and dy serves all nine taps, where conv_matrix.h copies x for each tap.
//
// A block computes all taps of 64 output by 64 input channels over a part of the images, strip by strip. A strip is some lines of dy, with the
// window of x that they meet: one line more above and below. The copy engine brings both as rows of 128 bytes, one for each position. A line
// has one position more than pixels: dy has a zero after each line, x a zero before it, which also serves as the zero after the line before.
// So the pixel that tap (u, v) meets is u lines and v positions further in the window than the pixel of dy, and the sums over a strip are
// products of the same rows of dy with rows of x from different first rows on. Positions after the last line, up to a multiple of 16, are
// zeros.
//
// Three warpgroups multiply, one for each u; one thread of another warp copies. A product has the three v side by side: 192 columns, which are
// three blocks of 64 input channels, each beginning one row after the one before (warpgroup.h). 16 positions take 288 cycles of the matrix
// units; meanwhile products read 24 KiB of shared memory (192 cycles), and some 5 KiB are copied (40), 18 bytes a cycle. For as many products
// the kernel of conv_matrix.h reads 27 KiB (216) and copies 13.5 KiB (108), of which 9 are read from the L1 cache too (72).
#pragma once
#include "convolution.h"
#include "cuda/matrix_tile.h"
#include "cuda/ring.h"
#include "cuda/tensor_map.h"

namespace turl {

struct HopperStrips {
  static constexpr int taps = 3, channels = block_sides;  // taps of a line of the window; input channels, and output channels, of a block
  static constexpr int rows = taps * taps * channels, columns = channels;  // the block's tile of the weight, for cheapest_parts (conv2d.cu)
  static constexpr int users = taps * warpgroup_threads, threads = users + 32;
  static constexpr int shared_bytes = 227 << 10, most_stages = 4;
  using Tile = Sums<HopperStrips, 1, taps * channels / 8>;

  __device__ static int first_row(int) { return int(threadIdx.x) / 32 % 4 * 16; }
  __device__ static int first_column() { return 0; }
};

// How the images are cut into strips. The number of lines of a strip is the one that takes the least time by a rough estimate: 18 cycles of
// products for each position, and one cycle for every 96 bytes that are copied. Since a block waits for its first strip, more lines are
// taken only if they save more than 1/64.
struct Strips {
  int channels, out_channels;
  int pitch;                     // positions of a line
  int lines = 0, of_image, all;  // lines of a strip, 0 if not even one fits; strips of an image, and of all images
  int positions, window;         // rows of 128 bytes of a strip: of dy, a multiple of 16; of x, a multiple of 8
  int stages;                    // strips that are in shared memory or on their way there

  explicit Strips(const Convolution& s) : channels(int(s.channels)), out_channels(int(s.out_channels)), pitch(int(s.width) + 1) {
    int64_t least = 0;
    for (int n = 1; n <= s.height && n + 2 <= 256 && pitch <= 256; n++) {
      const int of_dy = ceil_div(n * pitch, 16) * 16, of_x = ceil_div(of_dy + 2 * pitch + 2, 8) * 8, bytes = (of_dy + of_x) * 128;
      const int fit = HopperStrips::shared_bytes / (bytes + 2 * int(sizeof(Mbarrier)));
      if (fit < 2) break;
      const int64_t count = ceil_div(s.height, int64_t(n)), cycles = count * (18 * of_dy + bytes / 96);
      if (lines > 0 && cycles + least / 64 >= least) continue;
      lines = n, of_image = int(count), positions = of_dy, window = of_x, stages = std::min(fit, HopperStrips::most_stages), least = cycles;
    }
    all = lines > 0 ? int(s.batch) * of_image : 0;
  }
  int shared_bytes() const { return stages * (strip_packs() * 16 + 2 * int(sizeof(Mbarrier))); }
  TURL_BOTH int strip_packs() const { return (window + positions) * 8; }
};

// partial[part][out_channels][9][channels], whose parts, `part_strips` strips each, are added in order afterwards. Grid [input channels /
// 64, output channels / 64, parts]. x and dy are image_map() of s.lines + 2 and s.lines lines.
template <class Units>
__global__ void __launch_bounds__(Units::threads, 1)
    conv_backward_weight_strips_matrix_kernel(float* partial, const __grid_constant__ TensorMap dy, const __grid_constant__ TensorMap x,
                                              Strips s, int part_strips) {
  begin_kernel();
#ifdef TURL_WARPGROUPS
  auto* const strips = dynamic_shared<Pack<bfloat16>>();
  auto* const barriers = reinterpret_cast<Mbarrier*>(strips + s.stages * s.strip_packs());
  Ring places{strips, barriers, barriers + s.stages, s.stages, s.strip_packs()};
  const int first_channel = int(blockIdx.x) * Units::channels, first_out = int(blockIdx.y) * Units::channels, part = int(blockIdx.z);
  const int first = part * part_strips, last = min(first + part_strips, s.all);
  if (threadIdx.x == 0) {
    places.init(1, Units::users / 32);
    fence_mbarrier_init();
  }
  for (int stage = 0; stage < s.stages; stage++) {
    Pack<bfloat16>* const strip = strips + stage * s.strip_packs();
    const auto clear = [&](int begin, int end) {
      for (int i = begin * 8 + int(threadIdx.x); i < end * 8; i += Units::threads) strip[i] = {};
    };
    clear((s.lines + 2) * s.pitch, s.window);
    clear(s.window + s.lines * s.pitch, s.window + s.positions);
  }
  fence_async();
  __syncthreads();
  if (threadIdx.x >= Units::users) {
    if (threadIdx.x > Units::users) return;
    for (int strip = first; strip < last; strip++, places.next()) {
      const int image = strip / s.of_image, line = strip % s.of_image * s.lines;
      Mbarrier& full = places.full[places.at];
      places.wait_empty();
      expect_bytes(full, (2 * s.lines + 2) * s.pitch * 128);
      copy_lines(places.place(), x, first_channel, -1, line - 1, image, full);
      copy_lines(places.place() + s.window * 8, dy, first_out, 0, line, image, full);
    }
    return;
  }
  const int u = int(threadIdx.x) / warpgroup_threads;
  typename Units::Tile sums = {};
  int position = 0;
  const auto begin = [&] {  // returns the place that has been read to its end, or -1
    if (position == 0) places.wait_full();
    const Pack<bfloat16>* const window = places.place() + (position + u * s.pitch) * 8;
    const Pack<bfloat16>* const out = places.place() + (s.window + position) * 8;
    warpgroup_fence(sums.at);
    warpgroup_mma<true, true>(sums.at[0], operand<true>(out, 0), operand<true>(window, 0, 8));
    warpgroup_commit();
    position += 16;
    if (position < s.positions) return -1;
    position = 0;
    const int read = places.at;
    places.next();
    return read;
  };
  const auto free = [&](int place) {
    if (place >= 0 && threadIdx.x % 32 == 0) arrive(places.empty[place]);
  };
  groups_in_turn(sums.at, (last - first) * (s.positions / 16), begin, free);
  partial += ((int64_t(part) * s.out_channels + first_out) * Units::taps * Units::taps + u * Units::taps) * s.channels + first_channel;
  sums.each_row([&](int m, int half) {
    const int row = sums.row(m, half);
    float* const to = partial + row * Units::taps * Units::taps * s.channels;
    sums.pairs(m, half, [&](int column, float sum, float next) {
      const int v = column / Units::channels, c = column % Units::channels;
      if (first_out + row < s.out_channels && first_channel + c < s.channels)  // channels come in packs of 8
        *reinterpret_cast<float2*>(to + v * s.channels + c) = {sum, next};
    });
  });
#endif
}

// Whether this is such a convolution, and what is computed in vain (positions without a pixel, channels up to a multiple of 64) is at most half
// of what is wanted.
inline bool in_strips(const Convolution& s) {
  if (s.stride != 1 || s.groups != 1 || s.kernel_h != 3 || s.kernel_w != 3 || s.padding != 1 || s.batch == 0) return false;
  if (s.channels % 8 != 0 || s.out_channels % 8 != 0) return false;
  const Strips strips(s);
  if (strips.lines == 0) return false;
  const auto up = [](int64_t channels) { return double(ceil_div(channels, int64_t(block_sides)) * block_sides); };
  const double computed = double(strips.all) * strips.positions * up(s.channels) * up(s.out_channels);
  return computed <= 1.5 * double(s.batch * s.height * s.width) * double(s.channels * s.out_channels);
}

}  // namespace turl
