// The mean and the variance of each channel of a result [rows, channels], from sums that its chunks leave while the values are in
// registers: the batch normalisation that follows need not read the result for them (docs/decisions/0012-statistics-on-the-way.md).
//
// A chunk has some hundred rows. It sums in float the differences of the stored values to one of them, the origin, so that a large mean
// costs no accuracy, and the squares of these differences. It leaves sums of the values themselves, in double, which are added in order.
#pragma once
#include "cpu/blocks.h"
#include "cpu/channels.h"
#include "cpu/parallel.h"

namespace turl {

// The sums of a chunk. Columns are the channels, with gaps where that suits the kernel.
struct RowSums {
  float* origin = nullptr;  // [columns] origins, then [columns] sums and [columns] sums of squares; null if nobody wants them
  int64_t columns = 0;

  // Adds rows to `vectors` vectors of columns from c on: call start, then add for every row, then end. `fresh` says that these are the
  // first rows of the chunk: then the values given to start become the origin, and the sums begin at zero.
  template <int vectors> class Accumulator {
    float* const at;
    const int64_t columns;
    const bool fresh;
    vfloat origin[vectors], sum[vectors] = {}, square[vectors] = {};

   public:
    Accumulator(const RowSums& sums, int64_t c, bool fresh) : at(sums.origin + c), columns(sums.columns), fresh(fresh) {}
    void start(int i, vfloat first) {
      if (fresh) store(at + i * lanes, first);
      origin[i] = load(at + i * lanes);
    }
    void add(int i, vfloat stored) {
      const vfloat d = stored - origin[i];
      sum[i] += d, square[i] = fma(d, d, square[i]);
    }
    // Adds the sums of these few rows to those of the rows before them in one step, which means fewer roundings.
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

  // Says that chunks 0 to count - 1 will leave sums, each of them for all channels.
  void begin(int64_t count) {
    chunks = count;
    partial = static_cast<double*>(context.scratch(size_t(std::max<int64_t>(1, count) * 2 * channels) * sizeof(double)));
  }
  bool begun() const { return partial != nullptr; }

  // Memory of this thread for the sums of a chunk.
  static RowSums rows(int64_t columns) { return {thread_memory<Slot::sums>(3 * columns), columns}; }

  // A chunk's sums for channel c over n rows: of d = y - origin, and of d^2.
  void leave(int64_t chunk, int64_t c, double origin, double sum, double square, int64_t n) const {
    double* const to = partial + chunk * 2 * channels;
    to[c] = sum + double(n) * origin;
    to[channels + c] = square + origin * (2 * sum + double(n) * origin);
  }
  // The same for channels [c, c + count), whose sums begin at `column`.
  void leave(int64_t chunk, int64_t c, int64_t count, const RowSums& sums, int64_t column, int64_t n) const {
    const float* const at = sums.origin + column;
    for (int64_t i = 0; i < count; i++) leave(chunk, c + i, at[i], at[sums.columns + i], at[2 * sums.columns + i], n);
  }

  // The same for a chunk that is rows [begin, end) of an array: f(at) with f = column.operator()<V>(c) gives the values at index `at`.
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

  // statistics [2, channels] = means and variances over all `rows`.
  template <class A> void finish(A* statistics, int64_t rows) const {
    add_chunks(context, partial, chunks, 2 * channels);
    for (int64_t c = 0; c < channels; c++) {
      const double mean = partial[c] / double(rows), variance = partial[channels + c] / double(rows) - mean * mean;
      statistics[c] = A(mean), statistics[channels + c] = A(variance < 0 ? 0 : variance);  // NaN stays
    }
  }
};

// Means and variances of y [rows, channels], read from memory.
void channel_statistics(Context& context, Out statistics, In y, int64_t rows, int64_t channels);

}  // namespace turl
