// Loops over rows of channels. The same body runs for vectors of channels (V = vfloat) and for the last few channels (V = float); in float64
// for single channels only (V = double).
#pragma once
#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>
#include <vector>
#include "cpu/simd.h"

namespace turl {

// Loads a V from elements of T: a vector, or one element in T's accumulator type.
template <class V, class T> V get(const T* p) {
  if constexpr (std::is_same_v<V, vfloat>) return load(p);
  else return V(*p);
}
template <class V, class T> void put(T* p, V v) {
  if constexpr (std::is_same_v<V, vfloat>) store(p, v);
  else *p = T(v);
}

// Streaming (non-temporal) stores go to memory past the caches, for results that are larger than the caches. The address must be a
// multiple of the vector's bytes.
inline void store_streaming(float* p, vfloat v) {
#if defined(__AVX512F__)
  _mm512_stream_ps(p, v);
#elif defined(__AVX2__)
  _mm256_stream_ps(p, v);
#elif defined(__x86_64__)
  _mm_stream_ps(p, v);
#else
  store(p, v);
#endif
}
inline void store_streaming(bfloat16* p, vhalf v) {
#if defined(__AVX512F__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), __m256i(v));
#elif defined(__AVX2__)
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), __m128i(v));
#else
  memcpy(p, &v, sizeof v);
#endif
}
// Stores v, rounded to T, and returns the stored value.
template <bool streaming, class V, class T> V put_rounded(T* p, V v) {
  if constexpr (!std::is_same_v<V, vfloat>) {
    *p = T(v);
    return V(*p);
  } else if constexpr (std::is_same_v<T, float>) {
    streaming ? store_streaming(p, v) : store(p, v);
    return v;
  } else {
    const vhalf rounded = round_lanes(v);
    if constexpr (streaming) store_streaming(p, rounded);
    else memcpy(p, &rounded, sizeof rounded);
    return widen_lanes(rounded);
  }
}
// Bytes of the last-level cache that a core can use, 0 if unknown.
int64_t last_level_cache();
// Results of this size or larger are worth streaming: little of them would still be in the caches when the next kernel reads them. A
// sixteenth of the last-level cache, 4 MiB at least, found by timing whole training steps (docs/decisions/0011-amx.md).
inline int64_t streaming_bytes() {
  static const int64_t bytes = std::max(int64_t(4) << 20, last_level_cache() / 16);
  return bytes;
}
// Whether rows of `channels` elements from p on allow streaming stores and are worth them: only whole cache lines are.
template <class T> bool worth_streaming(const T* p, int64_t rows, int64_t channels) {
  const int64_t bytes = channels * int64_t(sizeof(T));
  return bytes % 64 == 0 && reinterpret_cast<uintptr_t>(p) % 64 == 0 && rows * bytes >= streaming_bytes();
}
// Makes streamed writes visible to the other threads; each thread calls it after its last one.
inline void end_streaming() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

// Rows in at most 64 chunks, of 16,384 elements or more: few enough that each can leave partial sums.
struct RowChunks {
  int64_t rows, grain, count;
  RowChunks(int64_t rows, int64_t channels)
      : rows(rows),
        grain(std::max({int64_t(1), 16384 / std::max<int64_t>(channels, 1), (rows + 63) / 64})),
        count(std::max<int64_t>(1, (rows + grain - 1) / grain)) {}
  int64_t begin(int64_t chunk) const { return chunk * grain; }
  int64_t end(int64_t chunk) const { return std::min(rows, (chunk + 1) * grain); }
};

// Visits rows [begin, end) of [rows, channels] in blocks of 64 channels, whose constants then stay in registers from row to row (with
// AVX-512). column.operator()<V>(c) reads the constants of the channels from c on and returns a function of a row;
// work.operator()<V>(first, stop, c, functions) runs the functions of a block, one for each vector, over rows [first, stop). Rows wider
// than a block are taken 16 at a time, so that memory is still read nearly in order. Without AVX-512, narrower blocks would fit the
// registers, but gain less than this order does.
template <class T, class F, class Work>
void for_channel_blocks(int64_t begin, int64_t end, int64_t channels, F&& column, Work&& work) {
  constexpr int64_t vectors = 64 / lanes;
  const int64_t at_once = channels <= vectors * lanes ? end - begin : 16;
  for (int64_t i = begin; i < end; i += at_once) {
    auto block = [&]<class V, size_t... j>(int64_t c, std::index_sequence<j...>) {
      constexpr int64_t width = sizeof(V) / sizeof(acc_t<T>);
      const std::array functions{column.template operator()<V>(c + int64_t(j) * width)...};
      work.template operator()<V>(i, std::min(end, i + at_once), c, functions);
    };
    int64_t c = 0;
    if constexpr (!std::is_same_v<T, double>) {
      for (; c + vectors * lanes <= channels; c += vectors * lanes)
        block.template operator()<vfloat>(c, std::make_index_sequence<vectors>());
      for (; c + lanes <= channels; c += lanes) block.template operator()<vfloat>(c, std::make_index_sequence<1>());
    }
    for (; c < channels; c++) block.template operator()<acc_t<T>>(c, std::make_index_sequence<1>());
  }
}

// Calls f(at) with f = column.operator()<V>(c) for every row and vector of channels; `at` is the index of the row's element c.
template <class T, class F> void for_rows(int64_t begin, int64_t end, int64_t channels, F&& column) {
  for_channel_blocks<T>(begin, end, channels, column, [&]<class V>(int64_t first, int64_t stop, int64_t c, const auto& functions) {
    constexpr int64_t width = sizeof(V) / sizeof(acc_t<T>);
    for (int64_t at = first * channels + c; at < stop * channels; at += channels)
      for (size_t j = 0; j < functions.size(); j++) functions[j](at + int64_t(j) * width);
  });
}

// total [count, channels] = sums over rows [begin, end) of `count` terms for each channel. f(at, sums) with f = column.operator()<V>(c)
// adds the terms of a row to sums[count]. Terms are added in the accumulator type over at most 128 rows, and from there on in double.
template <class T, int count, class F>
void sum_rows(double* total, int64_t begin, int64_t end, int64_t channels, F&& column) {
  using A = acc_t<T>;
  std::vector<A> sums(static_cast<size_t>(count * channels));
  std::fill(total, total + count * channels, 0.0);
  for (int64_t i = begin, next; i < end; i = next) {
    next = std::min(end, i + 128);
    std::fill(sums.begin(), sums.end(), A(0));
    for_channel_blocks<T>(i, next, channels, column, [&]<class V>(int64_t first, int64_t stop, int64_t c, const auto& functions) {
      constexpr int64_t width = sizeof(V) / sizeof(A);
      constexpr size_t vectors = std::tuple_size_v<std::remove_cvref_t<decltype(functions)>>;
      V part[vectors][count];
      for (size_t j = 0; j < vectors; j++)
        for (int s = 0; s < count; s++) part[j][s] = get<V>(&sums[size_t(s * channels + c + int64_t(j) * width)]);
      for (int64_t at = first * channels + c; at < stop * channels; at += channels)
        for (size_t j = 0; j < vectors; j++) functions[j](at + int64_t(j) * width, part[j]);
      for (size_t j = 0; j < vectors; j++)
        for (int s = 0; s < count; s++) put(&sums[size_t(s * channels + c + int64_t(j) * width)], part[j][s]);
    });
    for (int64_t c = 0; c < count * channels; c++) total[c] += double(sums[size_t(c)]);
  }
}

}  // namespace turl
