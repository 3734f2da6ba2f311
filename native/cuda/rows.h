// For kernels over [rows, channels] in which every channel has constants or sums of its own. A thread has a few neighbouring channels and
// walks over every n-th row, several rows at a time. All blocks go through the array together, from its beginning to its end or backwards:
// a kernel that begins where the one before it ended finds the data in the L2 cache. For sums over rows, a thread sums some hundred terms in
// float, a block adds up its threads' sums; what a block leaves is called a chunk, and chunks are added afterwards.
#pragma once
#include <algorithm>
#include "cuda/device.h"

namespace turl {

constexpr int row_threads = 256;

// How the threads of a launch walk over [rows, channels]: a block has columns x lines threads; the grid is [column blocks, chunks].
struct Walk {
  int64_t rows, chunk_rows;
  int channels, chunks;
  dim3 grid, block;

  // `blocks`: how many a multiprocessor holds, so that all blocks run at once.
  Walk(int64_t rows, int64_t channels, int width, int blocks = 4) : rows(rows), channels(int(channels)) {
    const int64_t groups = channels / width;
    unsigned columns = 1;
    while (columns < 32 && columns < groups) columns *= 2;
    block = {columns, row_threads / columns, 1};
    const int64_t across = std::max<int64_t>(ceil_div<int64_t>(groups, columns), 1), lines = block.y;
    // As many blocks as an H100 holds, but not so many that a thread would have fewer than four rows.
    const int64_t wanted = std::clamp<int64_t>(blocks * h100_multiprocessors / across, 1, std::max<int64_t>(rows / (lines * 4), 1));
    chunk_rows = ceil_div(ceil_div(std::max<int64_t>(rows, 1), wanted), lines) * lines;
    chunks = int(ceil_div(std::max<int64_t>(rows, 1), chunk_rows));
    grid = {unsigned(across), unsigned(chunks), 1};
  }
};
// A Walk as kernels use it; `width` channels for each thread.
template <int width> struct Rows {
  int64_t rows, chunk_rows;
  int channels;
  explicit Rows(const Walk& walk) : rows(walk.rows), chunk_rows(walk.chunk_rows), channels(walk.channels) {}
  __device__ int channel() const { return int(blockIdx.x * blockDim.x + threadIdx.x) * width; }

  // use(offset, groups) for each row of the thread, which has every (gridDim.y blockDim.y)-th row: `groups` are the thread's channels of that
  // row from each of the arrays, which lie at `offset`. `at_once` rows are read before the first is used.
  template <bool backwards, int at_once, class T, int arrays, class F> __device__ void each(const T* const (&from)[arrays], F use) const {
    const int64_t first = int64_t(blockIdx.y) * blockDim.y + threadIdx.y, next = int64_t(gridDim.y) * blockDim.y;
    if (channel() >= channels || first >= rows) return;
    const int count = int((rows - first + next - 1) / next);
    const int64_t step = (backwards ? -next : next) * channels;
    int64_t offset = (first + (backwards ? (count - 1) * next : 0)) * channels + channel();
    const auto some = [&]<int n>() {
      Group<T, width> read[n][arrays];
#pragma unroll
      for (int i = 0; i < n; i++)
#pragma unroll
        for (int j = 0; j < arrays; j++) read[i][j] = *reinterpret_cast<const Group<T, width>*>(from[j] + offset + i * step);
#pragma unroll
      for (int i = 0; i < n; i++, offset += step) use(offset, read[i]);
    };
    int left = count;
#pragma unroll 1
    for (; left >= at_once; left -= at_once) some.template operator()<at_once>();
#pragma unroll 1
    for (; left > 0; left--) some.template operator()<1>();
  }
  // use(i) for each row of the thread, where the rows of a block are neighbours.
  template <class F> __device__ void each_place(F use) const {
    if (channel() >= channels) return;
    const int64_t end = min(rows, int64_t(blockIdx.y + 1) * chunk_rows);
#pragma unroll 1
    for (int64_t i = int64_t(blockIdx.y) * chunk_rows + threadIdx.y; i < end; i += blockDim.y) use(i);
  }
};

// Adds the sums of the threads over the lines of the block, and writes them to partial[chunk][s][channel], or `by_channel` to
// partial[chunk][channel][s].
template <bool by_channel = false, int count, int width>
__device__ inline void leave_sums(float* partial, const float (&sum)[count][width], int channels) {
  TURL_SHARED(float, of_threads, [row_threads * width]);
  const int columns = int(blockDim.x) * width, thread = int(threadIdx.y * blockDim.x + threadIdx.x);
  const int c = int(blockIdx.x) * columns + thread;
#pragma unroll
  for (int s = 0; s < count; s++) {
    __syncthreads();  // the sums before may still be read
#pragma unroll
    for (int j = 0; j < width; j++) of_threads[thread * width + j] = sum[s][j];
    __syncthreads();
    if (thread >= columns || c >= channels) continue;
    float total = 0;
    for (int line = 0; line < int(blockDim.y); line++) total += of_threads[line * columns + thread];
    partial[int64_t(blockIdx.y) * count * channels + (by_channel ? c * count + s : s * channels + c)] = total;
  }
}

// Reads `width` channels from c on.
template <int width> __device__ inline void take(float (&to)[width], const float* from, int c) {
  constexpr int at_a_time = width == 1 ? 1 : 4;
#pragma unroll
  for (int j = 0; j < width; j += at_a_time) {
    const auto group = *reinterpret_cast<const Group<float, at_a_time>*>(from + c + j);
#pragma unroll
    for (int n = 0; n < at_a_time; n++) to[j + n] = group.v[n];
  }
}

// Calls f with the number of elements that a thread takes at once: a pack, or one.
template <class T, class F> void with_width(bool packed, F f) {
  packed ? f.template operator()<Pack<T>::size>() : f.template operator()<1>();
}

}  // namespace turl
