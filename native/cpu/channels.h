// Loops over the channels of a row, in vectors where the type has them: the same body serves vectors and the last few channels.
#pragma once
#include <algorithm>
#include <type_traits>
#include <vector>
#include "cpu/simd.h"

namespace turl {

// Calls f.template operator()<V>(c) with V = vfloat for whole vectors of channels, then with V = float for the rest; for float64
// with V = double only.
template <class T, class F> void for_channels(int64_t channels, F&& f) {
  int64_t c = 0;
  if constexpr (!std::is_same_v<T, double>)
    for (; c + lanes <= channels; c += lanes) f.template operator()<vfloat>(c);
  for (; c < channels; c++) f.template operator()<acc_t<T>>(c);
}

template <class V, class T> V get(const T* p) {
  if constexpr (std::is_same_v<V, vfloat>) return load(p);
  else return V(*p);
}
template <class V, class T> void put(T* p, V v) {
  if constexpr (std::is_same_v<V, vfloat>) store(p, v);
  else *p = T(v);
}

// Writes past the caches, for results that are larger than they are; the address must be a multiple of the vector's bytes.
template <class V, class T> void put_past_caches(T* p, V v) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<V, vfloat> && std::is_same_v<T, float>) return _mm512_stream_ps(p, v);
#elif defined(__AVX2__)
  if constexpr (std::is_same_v<V, vfloat> && std::is_same_v<T, float>) return _mm256_stream_ps(p, v);
#elif defined(__x86_64__)
  if constexpr (std::is_same_v<V, vfloat> && std::is_same_v<T, float>) return _mm_stream_ps(p, v);
#endif
  put(p, v);
}
// Whether rows of `channels` elements from p on allow put_past_caches, and are worth it.
template <class T> bool worth_streaming(const T* p, int64_t rows, int64_t channels) {
  return std::is_same_v<T, float> && channels % lanes == 0 && reinterpret_cast<uintptr_t>(p) % (lanes * 4) == 0 &&
         rows * channels >= int64_t(1) << 21;
}
// Makes streamed writes visible to the other threads; each thread calls it after its last one.
inline void end_streaming() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

// Rows in chunks of some 16,384 elements or more, at most 64 chunks: each leaves its own partial sums.
struct RowChunks {
  int64_t rows, grain, count;
  RowChunks(int64_t rows, int64_t channels)
      : rows(rows),
        grain(std::max({int64_t(1), 16384 / std::max<int64_t>(channels, 1), (rows + 63) / 64})),
        count(std::max<int64_t>(1, (rows + grain - 1) / grain)) {}
  int64_t begin(int64_t chunk) const { return chunk * grain; }
  int64_t end(int64_t chunk) const { return std::min(rows, (chunk + 1) * grain); }
};

// total [count, channels] = the sums over rows [begin, end) of `count` terms a channel; term.operator()<V>(i, c, sums) adds those of
// row i and the channels from c on to sums[count]. Few rows at a time stay in the first-level cache while their channels are
// visited, with the sums in registers, even and odd rows apart so that additions overlap; the terms are added in A over at most 256
// rows, then in double.
template <class T, int count, class F>
void sum_rows(double* total, int64_t begin, int64_t end, int64_t channels, F&& term) {
  using A = acc_t<T>;
  constexpr int64_t few = 8;
  std::vector<A> sums(static_cast<size_t>(count * channels));
  std::fill(total, total + count * channels, 0.0);
  for (int64_t i = begin; i < end;) {
    std::fill(sums.begin(), sums.end(), A(0));
    for (int64_t stop = std::min(end, i + 256), next; i < stop; i = next) {
      next = std::min(stop, i + few);
      for_channels<T>(channels, [&]<class V>(int64_t c) {
        V even[count], odd[count];
        for (int s = 0; s < count; s++) even[s] = get<V>(&sums[size_t(s * channels + c)]), odd[s] = V{};
        int64_t row = i;
        for (; row + 2 <= next; row += 2) {
          term.template operator()<V>(row, c, even);
          term.template operator()<V>(row + 1, c, odd);
        }
        if (row < next) term.template operator()<V>(row, c, even);
        for (int s = 0; s < count; s++) put(&sums[size_t(s * channels + c)], even[s] + odd[s]);
      });
    }
    for (int64_t c = 0; c < count * channels; c++) total[c] += double(sums[size_t(c)]);
  }
}

// Adds the chunks' sums [count, width] in order into the first.
inline void add_chunks(double* partial, int64_t count, int64_t width) {
  for (int64_t chunk = 1; chunk < count; chunk++)
    for (int64_t c = 0; c < width; c++) partial[c] += partial[chunk * width + c];
}

}  // namespace turl
