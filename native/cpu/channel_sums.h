// The mean and the variance of each channel of a result [rows, channels], from sums that its chunks leave while they are in the caches:
// the batch normalisation that follows need not read the result for them.
//
// A chunk sums in float over some hundred rows: the values, as stored, less one of them, so that a large mean costs no accuracy, and the squares of
// these differences. Chunks leave doubles of the values themselves, which are added in order.
#pragma once
#include "cpu/blocks.h"
#include "cpu/channels.h"
#include "cpu/parallel.h"

namespace turl {

// Those of a chunk. Columns are the channels, with gaps where that suits it.
struct RowSums {
  float* origin = nullptr;  // [columns], then as many sums and as many squares; null if nobody wants them
  int64_t columns = 0;

  // To pass `vectors` vectors of columns from c on: start, then add for every row, then end. The first values that start a vector become
  // its origin if the columns are `fresh`.
  template <int vectors> class Passing {
    float* const at;
    const int64_t columns;
    const bool fresh;
    vfloat origin[vectors], sum[vectors] = {}, square[vectors] = {};

   public:
    Passing(const RowSums& sums, int64_t c, bool fresh) : at(sums.origin + c), columns(sums.columns), fresh(fresh) {}
    void start(int i, vfloat first) {
      if (fresh) store(at + i * lanes, first);
      origin[i] = load(at + i * lanes);
    }
    void add(int i, vfloat stored) {
      const vfloat d = stored - origin[i];
      sum[i] += d, square[i] = fma(d, d, square[i]);
    }
    // The few rows that have passed are added to those before at once: so the sums of all have fewer roundings.
    void end() const {
      for (int i = 0; i < vectors; i++) {
        float *const sums = at + columns + i * lanes, *const squares = sums + columns;
        store(sums, fresh ? sum[i] : load(sums) + sum[i]), store(squares, fresh ? square[i] : load(squares) + square[i]);
      }
    }
  };
};

class ChannelSums {
  Context& context;
  const int64_t channels;
  double* partial = nullptr;  // [chunks][2][channels]
  int64_t chunks = 0;

 public:
  ChannelSums(Context& context, int64_t channels) : context(context), channels(channels) {}

  // Chunks 0 to count - 1 leave sums from now on, all of them for all channels.
  void begin(int64_t count) {
    chunks = count;
    partial = static_cast<double*>(context.scratch(size_t(std::max<int64_t>(1, count) * 2 * channels) * sizeof(double)));
  }
  bool begun() const { return partial != nullptr; }

  // Memory of this thread for a chunk.
  static RowSums rows(int64_t columns) { return {thread_memory<Slot::sums>(3 * columns), columns}; }

  // A chunk's sums for channel c: of d = y - origin over n rows, and of d^2.
  void leave(int64_t chunk, int64_t c, double origin, double sum, double square, int64_t n) const {
    double* const to = partial + chunk * 2 * channels;
    to[c] = sum + double(n) * origin;
    to[channels + c] = square + origin * (2 * sum + double(n) * origin);
  }
  // The same for channels [c, c + count), which begin at a column.
  void leave(int64_t chunk, int64_t c, int64_t count, const RowSums& sums, int64_t column, int64_t n) const {
    const float* const at = sums.origin + column;
    for (int64_t i = 0; i < count; i++) leave(chunk, c + i, at[i], at[sums.columns + i], at[2 * sums.columns + i], n);
  }

  // A chunk that is rows [begin, end): f(at), f = column.operator()<V>(c), is the value of element `at`, in the vector or channel at c.
  template <class T, class F> void sum_rows(int64_t chunk, int64_t begin, int64_t end, const acc_t<T>* origin, F&& column) const {
    double* const total = partial + chunk * 2 * channels;
    turl::sum_rows<T, 2>(total, begin, end, channels, [&]<class V>(int64_t c) {
      return [first = get<V>(origin + c), f = column.template operator()<V>(c)](int64_t at, V* sums) {
        const V d = f(at) - first;
        sums[0] += d, sums[1] += d * d;
      };
    });
    for (int64_t c = 0; c < channels; c++) leave(chunk, c, double(origin[c]), total[c], total[channels + c], end - begin);
  }

  // statistics [2, channels] = means and variances over all rows.
  template <class A> void finish(A* statistics, int64_t rows) const {
    add_chunks(context, partial, chunks, 2 * channels);
    for (int64_t c = 0; c < channels; c++) {
      const double mean = partial[c] / double(rows), variance = partial[channels + c] / double(rows) - mean * mean;
      statistics[c] = A(mean), statistics[channels + c] = A(variance < 0 ? 0 : variance);  // NaN stays
    }
  }
};

// The same of y as it stands in memory.
void channel_statistics(Context& context, Out statistics, In y, int64_t rows, int64_t channels);

}  // namespace turl
