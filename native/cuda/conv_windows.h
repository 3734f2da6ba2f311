// Convolutions of bfloat16 with stride 1 or 2, and the image's gradient of such convolutions, on the matrix units of sm_90a. Every pixel is
// copied into shared memory once for all taps, where conv_matrix.h copies it for each tap. Positions, gaps and phases: phased_images.h.
//
// A block has one warpgroup that copies and two that multiply, each half of a tile of 256 positions by 128 or 64 channels. For every 64
// channels of the input, three warps of the first warpgroup copy the tile's window: all positions that its taps meet, in rows of 128 bytes as
// wgmma wants them, with zeros where a position is no pixel. The products of each tap read the window from another first row on. The fourth
// warp has the copy engine bring tiles of the weight into a ring of their own. When a block goes on to its next tile, window and weight are
// already on their way. Where the last tiles would leave half of the multiprocessors idle, they are halved.
//
// 64 x 256 x 128 products take 1,024 cycles of the matrix units. Meanwhile wgmma reads 96 KiB of shared memory (768 cycles), the copy engine
// writes 16 KiB (128), and a window of 40 KiB is written once for all taps. Without windows, 32 KiB would be written (256) and read from L1
// (256). With 64 channels, wgmma reads shared memory in every cycle. The variant `turned` has channels for rows and 256 positions for columns
// of the products: then wgmma reads 80 KiB (640 cycles) for either width. A warp has all positions of its channels, so it sums them without
// other warps, but it must transpose its results.
#pragma once
#include "cuda/channel_sums.h"
#include "cuda/matrix_tile.h"
#include "cuda/phased_images.h"
#include "cuda/ring.h"
#include "cuda/tensor_map.h"

namespace turl {

// The tile that a block computes: 256 positions (or half as many) by `width` channels, of which a warpgroup has half the positions. If
// `turned`, the rows of products are channels, and each warpgroup has 256 positions (or half as many) by 64 channels: of the same positions
// for a width of 128, of different ones for 64.
template <int width, int blocks_of_rows = 2, bool is_turned = false> struct HopperWindows {
  static constexpr bool turned = is_turned;
  static constexpr int row_blocks = blocks_of_rows, columns = width;
  static constexpr int own_positions = (turned ? 2 : 1) * row_blocks * block_sides;         // of a warpgroup
  static constexpr int rows = turned && width == 128 ? own_positions : 2 * own_positions;
  static constexpr int chunks = turned ? rows / own_positions : 1;  // parts of a tile that leave sums of their own (channel_sums.h)
  static constexpr int copiers = warpgroup_threads, users = 2 * warpgroup_threads, threads = copiers + users;
  static constexpr int weight_packs = columns / block_sides * block_packs;
  static constexpr int blocks = width == 64 && !turned ? 2 : 1;  // blocks that a multiprocessor should hold, if their windows fit
  static constexpr int column_warps = users / 32;
  static constexpr int sums_packs = (column_warps * 2 * columns * int(sizeof(float)) + 1024) / 16;  // the sums of columns, and a barrier
  static constexpr int warp_packs = 64 * 2;  // if turned: 64 positions of the 16 channels of a warp
  static constexpr int copier_registers = blocks == 2 ? 48 : 88, product_registers = blocks == 2 ? 96 : 208;
  static_assert(blocks * (copiers * copier_registers + users * product_registers) <= 64 << 10, "what a multiprocessor has");
  using Half = HopperWindows<width, 1, turned>;
  using Tile = Sums<HopperWindows, turned ? 1 : row_blocks, (turned ? own_positions : columns) / 8>;

  __device__ static int first_row(int m) {
    return user() / warpgroup_threads * (rows / 2) + m * 64 + int(threadIdx.x) / 32 % 4 * 16;
  }
  __device__ static int first_column() { return 0; }

  // As in Ampere (mma_product.h), for a kernel that keeps sums_packs at the beginning of its shared memory.
  __device__ static int user() { return int(threadIdx.x) - copiers; }
  __device__ static int column_warp() { return user() / 32; }
  __device__ static float* free_memory() { return dynamic_shared<float>(); }
  __device__ static Mbarrier* meeting() { return reinterpret_cast<Mbarrier*>(free_memory() + column_warps * 2 * columns); }
#ifdef TURL_WARPGROUPS
  __device__ static void meet(int place) { meet_at(*meeting(), place); }
#else
  __device__ static void meet(int) {}
#endif
};

// A convolution of phased images in tiles.
template <class Units> struct WindowConvolution : PhasedImages {
  int kinds;                            // phases of the result, each of which has tiles of its own
  int largest = 0;                      // positions of the largest window
  int column_tiles, whole_rows, tiles;  // tiles side by side; rows of tiles that are not halved; all tiles
  int slots;                            // blocks that the GPU holds at once
  int sums_packs;                       // memory for the sums of columns, or to transpose results
  int windows, stages;                  // places for windows and for tiles of the weight; 0 stages if they do not fit
  Divisor by_column_tiles;

  WindowConvolution(const Context& context, const Convolution& s, bool mirrored, bool summed)
      : PhasedImages(s, mirrored), kinds(mirrored ? phase_count : 1), column_tiles(ceil_div(columns, Units::columns)),
        sums_packs(Units::turned ? Units::column_warps * Units::warp_packs : summed ? Units::sums_packs : 0), by_column_tiles(column_tiles) {
    for (int f = 0; f < phase_count; f++) largest = std::max(largest, window(phases[f], Units::rows));
    slots = place() * context.multiprocessors;
    whole_rows = int(ceil_div<int64_t>(positions(), Units::rows)), tiles = whole_rows * column_tiles * kinds;
    if (kinds > 1) return;
    const int full_rows = tiles / slots * slots / column_tiles;  // of tiles that keep all multiprocessors busy
    const int left = int(std::max<int64_t>(0, positions() - int64_t(full_rows) * Units::rows));
    const int halves = ceil_div(left, Units::Half::rows) * column_tiles;
    if (halves <= slots) whole_rows = full_rows, tiles = full_rows * column_tiles + halves;
  }

  // Chooses how many windows and stages fit into a block's shared memory, and returns how many blocks a multiprocessor then holds. A single
  // place for windows is enough only for tiles with one window: within a tile, the next window is needed before the last one is free. With
  // three places two windows are on their way at a time, which pays where a window has few taps.
  int place() {
    for (const auto& [held, wanted] : {std::pair(2, 2), std::pair(1, 3), std::pair(2, 1), std::pair(1, 2)}) {
      if (held > Units::blocks || (wanted == 1 && depth / block_depth * (phase_count / kinds) > 1)) continue;
      if (wanted == 3 && phases[0].taps() > 4) continue;
      windows = wanted, stages = 6;
      while (stages >= 3 && shared_bytes() > (228 / held - 1) << 10) stages--;  // of 228 KiB, the system takes 1 KiB for each block
      if (stages >= 3) return held;
    }
    stages = 0;
    return 1;
  }
  // Blocks of the launch: as many for each kind of tile.
  int blocks() const { return std::min(tiles, std::max(slots / kinds, 1) * kinds); }
  int64_t shared_bytes() const {
    return sums_packs * 16 + stages * (Units::weight_packs * 16 + 2 * sizeof(Mbarrier)) + windows * (int64_t(largest) * 128 + 2 * sizeof(Mbarrier));
  }

  // A tile: its row of tiles, its first position and channel, and its phases [phase, end).
  struct Place {
    int row, position, channel, phase, end;
    bool half;
  };
  int chunks() const { return tiles / column_tiles * Units::chunks; }
  // Neighbouring blocks take all kinds at the same positions; each time a block takes another kind, since some are more work than others.
  __device__ Place tile(int number) const {
    const int kind = kinds > 1 ? (number + number / int(gridDim.x)) % kinds : 0, end = kinds > 1 ? kind + 1 : phase_count;
    if (kinds > 1) number /= kinds;
    const int row = by_column_tiles.quotient(number), channel = by_column_tiles.remainder(number, row) * Units::columns;
    if (row < whole_rows) return {row, row * Units::rows, channel, kind, end, false};
    return {row, whole_rows * Units::rows + (row - whole_rows) * Units::Half::rows, channel, kind, end, true};
  }
};

#ifdef TURL_WARPGROUPS
// The role of the warps that copy windows; this one is number `warp` of `warps`. It takes 32 rows at a time: each lane computes where the pixel
// of one row is, and eight lanes copy a row. With three places, a window is reported full when the copies of the next one have been started.
template <class Units>
__device__ void copy_windows(Ring windows, const bfloat16* x, const WindowConvolution<Units>& s, int warp, int warps) {
  const int lane = int(threadIdx.x) % 32, row = lane / 8, pack = lane % 8;
  const auto arrived = [&](Mbarrier& full) {
    fence_async();
    __syncwarp();
    if (lane == 0) arrive(full);
  };
  Mbarrier* before = nullptr;  // the barrier of a window that is still on its way
  for (int number = int(blockIdx.x); number < s.tiles; number += int(gridDim.x)) {
    const auto tile = s.tile(number);
    for (int c = 0; c < s.depth; c += block_depth)
      for (int f = tile.phase; f < tile.end; f++) {
        const Phase& phase = s.phases[f];
        if (phase.taps() == 0) continue;
        const int first = tile.position + phase.start, rows = s.window(phase, tile.half ? Units::Half::rows : Units::rows);
        const auto* const from = reinterpret_cast<const Pack<bfloat16>*>(x + c) + pack;
        windows.wait_empty();
#pragma unroll 1
        for (int part = warp * 32; part < rows; part += warps * 32) {
          const int pixel = s.in_pixel(first + part + lane, phase), mine = pixel < 0 ? -1 : pixel * (s.depth / 8);
          Pack<bfloat16>* const to = windows.place() + (part + row) * 8;
#pragma unroll
          for (int i = 0; i < 32; i += 4) {
            const int packs = __shfl_sync(full_warp, mine, i + row);
            if (part + i < rows) copy_async(to + i * 8 + (pack ^ row ^ i % 8), from + packs, packs >= 0);
          }
        }
        commit_copies();
        if (windows.count < 3) {
          wait_copies<0>();
          arrived(windows.full[windows.at]);
        } else {
          wait_copies<1>();
          if (before) arrived(*before);
          before = &windows.full[windows.at];
        }
        windows.next();
      }
  }
  wait_copies<0>();
  if (before) arrived(*before);
}

// The role of the one thread that starts the copies of the weight.
template <class Units, bool mirrored>
__device__ void copy_weights(Ring weights, const TensorMap& weight, const WindowConvolution<Units>& s) {
  const int next = mirrored ? -s.out_step : s.in_step;  // distance of neighbouring taps of a phase among the weight's taps
  for (int number = int(blockIdx.x); number < s.tiles; number += int(gridDim.x)) {
    const auto tile = s.tile(number);
    for (int c = 0; c < s.depth; c += block_depth)
      for (int f = tile.phase; f < tile.end; f++) {
        const Phase& phase = s.phases[f];
        for (int u = 0; u < phase.down; u++)
          for (int v = 0; v < phase.across; v++) {
            const int tap = phase.first + next * (u * s.kernel_w + v);
            Mbarrier& full = weights.full[weights.at];
            weights.wait_empty();
            expect_bytes(full, Units::weight_packs * 16);
#pragma unroll
            for (int n = 0; n < Units::columns / block_sides; n++) {
              Pack<bfloat16>* const to = weights.place() + n * block_packs;
              if (mirrored) copy_block(to, weight, tile.channel + n * block_sides, tap, c, full);
              else copy_block(to, weight, tap * s.depth + c, tile.channel + n * block_sides, 0, full);
            }
            weights.next();
          }
      }
  }
}

// The role of the warpgroups that multiply: computes the sums of one tile.
template <class Part, bool mirrored, class S>
__device__ void multiply_tile(typename Part::Tile& sums, Ring& windows, Ring& weights, const S& s, const typename S::Place& tile) {
  const int warpgroup = Part::user() / warpgroup_threads, first_row = Part::own_positions == Part::rows ? 0 : warpgroup * Part::own_positions;
  int f = tile.phase, tap = 0, v = 0, row = first_row, across = s.phases[f].across, taps = s.phases[f].taps(), all = taps;
  for (int other = tile.phase + 1; other < tile.end; other++) all += s.phases[other].taps();
  struct Used {
    int weight, window;  // the places that a group of products reads; window is -1 if later products read the same one
  };
  const auto begin = [&] {
    if (tap == 0) windows.wait_full();
    weights.wait_full();
    const Pack<bfloat16>* const pixels = windows.place() + row * 8;
    const Pack<bfloat16>* const weight = weights.place();
    warpgroup_fence(sums.at);
#pragma unroll
    for (int k = 0; k < block_depth; k += 16)
      if constexpr (Part::turned) {
        const Pack<bfloat16>* const channels = weight + (Part::columns > block_sides ? warpgroup * block_packs : 0);
        warpgroup_mma<mirrored, false>(sums.at[0], operand<mirrored>(channels, k), operand<false>(pixels, k));
      } else {
#pragma unroll
        for (int m = 0; m < Part::row_blocks; m++)
          warpgroup_mma<false, mirrored>(sums.at[m], operand<false>(pixels + m * block_packs, k), operand<mirrored>(weight, k));
      }
    warpgroup_commit();
    Used used{weights.at, -1};
    weights.next();
    tap++, row++;
    if (++v == across) v = 0, row += s.pitch - across;
    if (tap == taps) {
      used.window = windows.at;
      windows.next();
      tap = 0, v = 0, row = first_row;
      if (++f == tile.end) f = tile.phase;
      across = s.phases[f].across, taps = s.phases[f].taps();
    }
    return used;
  };
  const auto free = [&](const Used& used) {
    if (threadIdx.x % 32 != 0) return;
    arrive(weights.empty[used.weight]);
    if (used.window >= 0) arrive(windows.empty[used.window]);
  };
  groups_in_turn(sums.at, s.depth / block_depth * all, begin, free);
}

// Writes the results of a tile and leaves its sums. Rows of the tile are positions.
template <class Part, class S>
__device__ void put_rows(bfloat16* y, float* chunk_sums, const typename Part::Tile& sums, const S& s, const typename S::Place& tile) {
  uint32_t pixels = 0;  // a bit for each row of this thread: whether it is one
  sums.each_row([&](int m, int half) {
    const int pixel = s.out_pixel(tile.position + sums.row(m, half), s.phases[tile.phase]);
    pixels |= uint32_t(pixel >= 0) << (2 * m + half);
    sums.packs(m, half, [&](int column, const Pack<bfloat16>& pack) {
      const int c = tile.channel + column;
      if (pixel >= 0) put_pack(y + int64_t(pixel) * s.columns + c, pack, s.columns - c);
    });
  });
  if (chunk_sums)
    leave_column_sums<Part>(chunk_sums + int64_t(tile.row) * 2 * s.columns + tile.channel, s.columns, s.columns - tile.channel, sums,
                            [&](int m, int half) { return (pixels >> (2 * m + half) & 1) != 0; });
}

// The same for `turned`: rows of the tile are channels. A warp has 16 channels of its positions, and transposes 64 positions at a time through
// shared memory of its own.
template <class Part, class S>
__device__ void put_turned(bfloat16* y, float* chunk_sums, const typename Part::Tile& sums, const S& s, const typename S::Place& tile) {
  constexpr int positions = Part::own_positions;
  const int lane = int(threadIdx.x) % 32, g = lane / 4, t = lane % 4, warp = Part::user() / 32, warpgroup = warp / 4;
  const bool beside = Part::columns > block_sides;  // warpgroups have channels side by side
  const int channel = tile.channel + (beside ? warpgroup * block_sides : 0) + warp % 4 * 16;
  const int first = tile.position + (beside ? 0 : warpgroup * positions);
  Pack<bfloat16>* const turning = dynamic_shared<Pack<bfloat16>>() + warp * Part::warp_packs;
  const auto place = [&](int position, int half) { return turning + position * 2 + (half ^ position / 4 % 2); };  // permuted, to avoid bank conflicts
  float total[2][2] = {};  // of channels g and g + 8: the sum of values and the sum of squares
#pragma unroll
  for (int round = 0; round < positions / 64; round++) {
    int pixels[2];      // the pixel of position 32 n + lane of this round, or -1
    uint32_t there[2];  // a bit for each position: whether it is a pixel
#pragma unroll
    for (int n = 0; n < 2; n++) {
      pixels[n] = s.out_pixel(first + round * 64 + 32 * n + lane, s.phases[tile.phase]);
      there[n] = __ballot_sync(full_warp, pixels[n] >= 0);
    }
#pragma unroll
    for (int n = 0; n < 8; n += 2) {
      uint32_t pairs[4];
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int of_round = n + i / 2, column = round * 8 + of_round, half = i % 2;
        pairs[i] = pack_bfloat16(sums.at[0][column][half * 2], sums.at[0][column][half * 2 + 1]);
        if (!chunk_sums) continue;
        const uint32_t both = there[of_round / 4] >> (of_round % 4 * 8 + 2 * t);
        float values[2];
        split_bfloat16(pairs[i], values);
#pragma unroll
        for (int k = 0; k < 2; k++) {
          const float value = both >> k & 1 ? values[k] : 0.0f;
          total[half][0] += value, total[half][1] += value * value;
        }
      }
      store_matrix_4_transposed(place((n + lane / 16) * 8 + lane % 8, lane / 8 % 2), pairs);
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 64; i += 16) {
      const int position = i + lane / 2, half = lane % 2, c = channel + half * 8;
      const int pixel = __shfl_sync(full_warp, pixels[i / 32], position % 32);
      if (pixel >= 0) put_pack(y + int64_t(pixel) * s.columns + c, *place(position, half), s.columns - c);
    }
    __syncwarp();
  }
  if (!chunk_sums) return;
  float* const to = chunk_sums + int64_t(tile.row * Part::chunks + (beside ? 0 : warpgroup)) * 2 * s.columns;
#pragma unroll
  for (int half = 0; half < 2; half++)
#pragma unroll
    for (int k = 0; k < 2; k++) {
      float& sum = total[half][k];
      sum += __shfl_xor_sync(full_warp, sum, 1);
      sum += __shfl_xor_sync(full_warp, sum, 2);
      const int c = channel + half * 8 + g;
      if (t == 0 && c < s.columns) to[k * s.columns + c] = sum;
    }
}
#endif

// Each block computes the tiles blockIdx.x, blockIdx.x + gridDim.x, ... If chunk_sums is not null, a row of tiles, or a warpgroup's part of it,
// is a chunk for the sums (channel_sums.h).
template <class Units, bool mirrored>
__global__ void __launch_bounds__(Units::threads, Units::blocks)
    conv_windows_matrix_kernel(bfloat16* y, float* chunk_sums, const bfloat16* x, const __grid_constant__ TensorMap weight,
                               const __grid_constant__ WindowConvolution<Units> s) {
  begin_kernel();
#ifdef TURL_WARPGROUPS
  constexpr int copying_warps = Units::copiers / 32 - 1, multiplying_warps = Units::users / 32;
  auto* const shared = dynamic_shared<Pack<bfloat16>>() + s.sums_packs;
  Pack<bfloat16>* const first_window = shared + s.stages * Units::weight_packs;
  auto* const barriers = reinterpret_cast<Mbarrier*>(first_window + s.windows * s.largest * 8);
  Ring weights{shared, barriers, barriers + s.stages, s.stages, Units::weight_packs};
  Ring windows{first_window, barriers + 2 * s.stages, barriers + 2 * s.stages + s.windows, s.windows, s.largest * 8};
  if (threadIdx.x == 0) {
    weights.init(1, multiplying_warps);
    windows.init(copying_warps, multiplying_warps);
    if (chunk_sums && !Units::turned) init_mbarrier(*Units::meeting(), multiplying_warps);
    fence_mbarrier_init();
  }
  __syncthreads();
  if (threadIdx.x < Units::copiers) {
    give_registers<Units::copier_registers>();
    if (threadIdx.x >= 32) copy_windows(windows, x, s, int(threadIdx.x) / 32 - 1, copying_warps);
    else if (threadIdx.x == 0) copy_weights<Units, mirrored>(weights, weight, s);
    return;
  }
  take_registers<Units::product_registers>();
  const auto compute = [&]<class Part>(const auto& tile) {
    typename Part::Tile sums = {};
    multiply_tile<Part, mirrored>(sums, windows, weights, s, tile);
    if constexpr (Part::turned) put_turned<Part>(y, chunk_sums, sums, s, tile);
    else put_rows<Part>(y, chunk_sums, sums, s, tile);
  };
  for (int number = int(blockIdx.x); number < s.tiles; number += int(gridDim.x)) {
    const auto tile = s.tile(number);
    if (!tile.half) compute.template operator()<Units>(tile);
    else compute.template operator()<typename Units::Half>(tile);
  }
#endif
}

// Whether this is such a convolution, and windows save more than the gaps cost: each position takes 1,024 cycles in place of 1,408.
inline bool in_windows(const Convolution& s, bool mirrored) {
  if (s.stride > 2 || s.groups != 1 || s.batch == 0) return false;
  if (s.padding >= std::min(s.kernel_h, s.kernel_w) || s.channels % 8 != 0) return false;
  const PhasedImages sizes(s, mirrored);
  const int64_t results = int64_t(ceil_div(sizes.out_height, sizes.out_step)) * ceil_div(sizes.out_width, sizes.out_step);
  const int64_t positions = sizes.batch * int64_t(sizes.image);
  return sizes.depth % block_depth == 0 && positions < (1 << 30) && positions * sizes.in_step * sizes.in_step * (sizes.depth / 8) < (int64_t(1) << 31) &&
         int64_t(sizes.image) * 1024 <= results * 1408;
}

}  // namespace turl
