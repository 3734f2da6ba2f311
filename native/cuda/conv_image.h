// Convolution of bfloat16 with few input channels (the first layer) on matrix units: the inner dimension, taps x channels, has at most 32
// values (27 for 3x3 of three channels). The tiles of conv_matrix.h would be mostly empty. Both kernels pass once over y or dy, whose memory
// is what takes the time: 2 bytes an element.
//
// A warp takes 16 pixels at a time. The values of x go one by one from memory, or the L1 cache, straight into the registers of the lanes that
// multiply them (mma.h says which): they are not aligned for packs, and a lane has the same taps of all its pixels. In the forward pass the
// weight lies in shared memory. For the weight's gradient, dy comes through a ring in shared memory that each warp has for itself.
#pragma once
#include "convolution.h"
#include "cuda/matrix_tile.h"
#include "divisor.h"

namespace turl {

struct Image {
  static constexpr int values = 32, columns = 64, pixels = 16;  // most taps x channels; output channels of a block; pixels of a warp
  static constexpr int threads = 256, warps = threads / 32, blocks = 2;
#ifdef TURL_EMULATED  // few, so that in small tests a warp makes several steps
  static constexpr int most_blocks = 2;
#else
  static constexpr int most_blocks = blocks * h100_multiprocessors;
#endif
  static constexpr int stages = 4, stage_packs = pixels * columns / 8;
  static constexpr int shared_bytes = warps * stages * stage_packs * 16;
  static_assert(shared_bytes == warps * values * columns * int(sizeof(float)), "the sums of all warps take the place of the ring");
  using Tile = Sums<Image, 1, columns / 8>;

  __device__ static int first_row(int) { return 0; }
  __device__ static int first_column() { return 0; }
};

inline bool of_image(const Convolution& s) { return s.groups == 1 && s.taps() * s.channels <= Image::values && s.x_size() < (1 << 30); }

struct ImageConvolution {
  int height, width, channels, out_channels, kernel_w, values, stride, padding, pixels;
  Divisor by_out_height, by_out_width;

  explicit ImageConvolution(const Convolution& s)
      : height(int(s.height)), width(int(s.width)), channels(int(s.channels)), out_channels(int(s.out_channels)),
        kernel_w(int(s.kernel_w)), values(int(s.taps() * s.channels)), stride(int(s.stride)), padding(int(s.padding)),
        pixels(int(s.batch * s.out_height() * s.out_width())), by_out_height(int(s.out_height())), by_out_width(int(s.out_width())) {}

  // The blocks among which all pixels are divided.
  int blocks() const { return std::min(Image::most_blocks, ceil_div(pixels, Image::warps * Image::pixels)); }
  // f(first) for each 16 pixels of this warp, which begin at pixel `first`.
  template <class F> __device__ void each_step(F f) const {
    const int next = int(gridDim.x) * Image::warps * Image::pixels;
    for (int first = (int(blockIdx.x) * Image::warps + int(threadIdx.x) / 32) * Image::pixels; first < pixels; first += next) f(first);
  }

  // A tap and channel: how far its value lies from that of the first tap and channel, and in which line and column of the window. For k beyond
  // `values` the line is outside of every image.
  struct Value {
    int offset, line, column;
  };
  __device__ Value value(int k) const {
    const int tap = k / channels, u = tap / kernel_w, v = tap - u * kernel_w;
    return {(u * width + v) * channels + k - tap * channels, k < values ? u : 1 << 14, v};
  }
  // The value that a pixel of y meets with the first tap. Past the last pixel the line is outside of every image.
  struct Place {
    int first, line, column;
  };
  __device__ Place place(int pixel) const {
    const int line = by_out_width.quotient(pixel), image = by_out_height.quotient(line);
    const int y = by_out_height.remainder(line, image) * stride - padding, x = by_out_width.remainder(pixel, line) * stride - padding;
    return {((image * height + y) * width + x) * channels, pixel < pixels ? y : -(1 << 15), x};
  }
  __device__ uint32_t read(const bfloat16* x, const Place& at, const Value& of) const {
    return within(at.line + of.line, height) && within(at.column + of.column, width) ? x[at.first + of.offset].bits : 0;
  }
};

// Grid [blocks, output channels / 64]. chunk_sums (channel_sums.h): a block is a chunk.
template <bool summed>
__global__ void __launch_bounds__(Image::threads, Image::blocks)
    conv_image_forward_kernel(bfloat16* y, float* chunk_sums, const bfloat16* x, const bfloat16* weight, ImageConvolution s) {
  begin_kernel();
  constexpr int columns = Image::columns;
  const int lane = int(threadIdx.x) % 32, g = lane / 4, t = lane % 4, first_channel = int(blockIdx.y) * columns;
  struct alignas(8) Right {
    uint32_t of[2];
  };
  TURL_SHARED(Right, right, [2 * columns / 8][32]);  // the weight: for both halves of the inner dimension, by lane
  for (int i = int(threadIdx.x) / 32; i < 2 * columns / 8; i += Image::warps)
#pragma unroll
    for (int j = 0; j < 2; j++) {
      const int o = first_channel + i % (columns / 8) * 8 + g, first_k = i / (columns / 8) * 16 + j * 8 + 2 * t;
      const auto bits = [&](int k) { return uint32_t(o < s.out_channels && k < s.values ? weight[o * s.values + k].bits : 0); };
      right[i][lane].of[j] = bits(first_k) | bits(first_k + 1) << 16;
    }
  __syncthreads();
  ImageConvolution::Value of[8];
#pragma unroll
  for (int i = 0; i < 8; i++) of[i] = s.value(i / 2 * 8 + 2 * t + i % 2);
  float sum[2][columns / 8][2] = {};
  s.each_step([&](int first) {
    const ImageConvolution::Place at[2] = {s.place(first + g), s.place(first + g + 8)};
    uint32_t left[2][4];
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int k = half * 4 + i / 2 * 2;
        left[half][i] = s.read(x, at[i % 2], of[k]) | s.read(x, at[i % 2], of[k + 1]) << 16;
      }
    Image::Tile tile = {};
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
      for (int n = 0; n < columns / 8; n++) {
        const Right at_n = right[half * (columns / 8) + n][lane];
        mma_bfloat16(tile.at[0][n], left[half], at_n.of[0], at_n.of[1]);
      }
    tile.each_row([&](int m, int half) {
      const int pixel = first + tile.row(m, half);
      tile.packs(m, half, [&](int column, const Pack<bfloat16>& pack) {
        const int o = first_channel + column;
        if (pixel < s.pixels) put_pack(y + int64_t(pixel) * s.out_channels + o, pack, s.out_channels - o);
      });
      if constexpr (summed) {  // sums past the last pixel are zero
#pragma unroll
        for (int n = 0; n < columns / 8; n++) {
          float rounded[2];
          split_bfloat16(pack_bfloat16(tile.at[m][n][half * 2], tile.at[m][n][half * 2 + 1]), rounded);
#pragma unroll
          for (int i = 0; i < 2; i++) sum[0][n][i] += rounded[i], sum[1][n][i] += rounded[i] * rounded[i];
        }
      }
    });
  });
  if constexpr (summed) {
    TURL_SHARED(float, of_warps, [Image::warps][2 * columns]);
#pragma unroll
    for (int which = 0; which < 2; which++)
#pragma unroll
      for (int n = 0; n < columns / 8; n++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
          float total = sum[which][n][i];
#pragma unroll
          for (int bit = 4; bit < 32; bit *= 2) total += __shfl_xor_sync(full_warp, total, bit);
          if (g == 0) of_warps[threadIdx.x / 32][which * columns + n * 8 + 2 * t + i] = total;
        }
    __syncthreads();
    const int which = int(threadIdx.x) / columns, o = first_channel + int(threadIdx.x) % columns;
    if (which > 1 || o >= s.out_channels) return;
    float total = 0;
#pragma unroll
    for (int warp = 0; warp < Image::warps; warp++) total += of_warps[warp][threadIdx.x];
    chunk_sums[(int64_t(blockIdx.x) * 2 + which) * s.out_channels + o] = total;
  }
}

// Writes partial[block][out_channels][values]; blocks are added in order afterwards. The same grid. Rows of the product are values, columns
// output channels, and its inner dimension pixels.
__global__ void __launch_bounds__(Image::threads, Image::blocks)
    conv_image_backward_weight_kernel(float* partial, const bfloat16* dy, const bfloat16* x, ImageConvolution s) {
  begin_kernel();
  constexpr int columns = Image::columns, stages = Image::stages;
  const int lane = int(threadIdx.x) % 32, g = lane / 4, t = lane % 4, warp = int(threadIdx.x) / 32;
  const int first_channel = int(blockIdx.y) * columns, next = int(gridDim.x) * Image::warps * Image::pixels;
  Pack<bfloat16>* const ring = dynamic_shared<Pack<bfloat16>>() + warp * stages * Image::stage_packs;
  const auto fetch = [&](int first, int stage) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int row = i * 4 + lane / 8, pack = lane % 8, pixel = first + row, o = first_channel + pack * 8;
      const bool inside = pixel < s.pixels && o < s.out_channels;
      copy_async(ring + stage * Image::stage_packs + row * 8 + (pack ^ row % 8), inside ? dy + int64_t(pixel) * s.out_channels + o : dy, inside);
    }
    commit_copies();  // also past the last pixel, so that the count of groups stays the same
  };
  ImageConvolution::Value of[4];
#pragma unroll
  for (int i = 0; i < 4; i++) of[i] = s.value(i * 8 + g);
  float sums[2][columns / 8][4] = {};
  const int begin = (int(blockIdx.x) * Image::warps + warp) * Image::pixels;
  for (int i = 0; i < stages - 1; i++) fetch(begin + i * next, i);
  int stage = 0;
  s.each_step([&](int first) {
    uint32_t left[2][4];
#pragma unroll
    for (int pair = 0; pair < 2; pair++) {
      const ImageConvolution::Place at[2] = {s.place(first + pair * 8 + 2 * t), s.place(first + pair * 8 + 2 * t + 1)};
#pragma unroll
      for (int i = 0; i < 4; i++) left[i / 2][pair * 2 + i % 2] = s.read(x, at[0], of[i]) | s.read(x, at[1], of[i]) << 16;
    }
    wait_copies<stages - 2>();
    __syncwarp();  // what all lanes have copied is there, and all are done with the stage before, whose place the next copies take
    fetch(first + (stages - 1) * next, (stage + stages - 1) % stages);
    const Pack<bfloat16>* const rows = ring + stage * Image::stage_packs;
#pragma unroll
    for (int n = 0; n < columns / 8; n += 2) {
      uint32_t right[4];
      load_matrix_4_transposed(right, rows + lane % 16 * 8 + ((n + lane / 16) ^ lane % 8));
#pragma unroll
      for (int m = 0; m < 2; m++)
#pragma unroll
        for (int i = 0; i < 2; i++) mma_bfloat16(sums[m][n + i], left[m], right[2 * i], right[2 * i + 1]);
    }
    stage = (stage + 1) % stages;
  });
  wait_copies<0>();
  __syncthreads();
  float* const of_warps = dynamic_shared<float>();  // [warps][values][columns]
#pragma unroll
  for (int m = 0; m < 2; m++)
#pragma unroll
    for (int n = 0; n < columns / 8; n++)
#pragma unroll
      for (int i = 0; i < 4; i++)
        of_warps[(warp * Image::values + m * 16 + i / 2 * 8 + g) * columns + n * 8 + 2 * t + i % 2] = sums[m][n][i];
  __syncthreads();
  for (int i = int(threadIdx.x); i < Image::values * columns; i += Image::threads) {
    const int k = i / columns, o = first_channel + i % columns;
    if (k >= s.values || o >= s.out_channels) continue;
    float total = 0;
#pragma unroll
    for (int from = 0; from < Image::warps; from++) total += of_warps[from * Image::values * columns + i];
    partial[(int64_t(blockIdx.x) * s.out_channels + o) * s.values + k] = total;
  }
}

}  // namespace turl
