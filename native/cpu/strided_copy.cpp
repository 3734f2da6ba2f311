// Copies between arrays whose elements lie at strides: transpose, slice, concatenation, broadcast.
#include <cmath>
#include "cpu/lanes.h"
#include "cpu/parallel.h"
#include "cpu/strided.h"
#include "kernels.h"

namespace turl {

namespace {

// If the copy is a transpose, that is, y's elements lie side by side along the last axis but x's along another one, that axis; else -1.
int64_t transposed_axis(Ints shape, Ints y_strides, Ints x_strides) {
  const int64_t last = shape.size - 1;
  if (y_strides[last] != 1 || x_strides[last] == 1 || shape[last] < 2) return -1;
  for (int64_t d = 0; d < last; d++)
    if (x_strides[d] == 1 && shape[d] > 1) return d;
  return -1;
}

// Blocks of 64 x 64 go through a buffer, so that each cache line of x and of y is read or written once.
template <class T>
void transpose(Context& context, T* y, const T* x, Ints shape, Ints y_strides, Ints x_strides, int64_t axis) {
  constexpr int64_t side = 64;
  const int64_t last = shape.size - 1, rows = shape[axis], columns = shape[last];
  const int64_t row_blocks = (rows + side - 1) / side, column_blocks = (columns + side - 1) / side;
  int64_t planes = 1;
  for (int64_t d = 0; d < last; d++) planes *= d == axis ? 1 : shape[d];
  parallel_for(context, planes * row_blocks * column_blocks, 8, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; item++) {
      const int64_t row = item / column_blocks % row_blocks * side, count = std::min(side, rows - row);
      const int64_t column = item % column_blocks * side, width = std::min(side, columns - column);
      T* out = y + row * y_strides[axis] + column;
      const T* in = x + row + column * x_strides[last];
      int64_t rest = item / (column_blocks * row_blocks);
      for (int64_t d = last - 1; d >= 0; d--) {
        if (d == axis) continue;
        out += rest % shape[d] * y_strides[d], in += rest % shape[d] * x_strides[d];
        rest /= shape[d];
      }
      T block[side][side];
      for (int64_t k = 0; k < width; k++)
        for (int64_t i = 0; i < count; i++) block[i][k] = in[k * x_strides[last] + i];
      for (int64_t i = 0; i < count; i++) std::copy_n(block[i], width, out + i * y_strides[axis]);
    }
  });
}

}  // namespace

// y[y_offset + i y_strides] = x[x_offset + i x_strides] for every i of the space `shape`; the rest of y stays as it is.
void strided_copy(Context& context, Out y, In x, Ints shape, Ints y_strides, Ints x_strides, int64_t y_offset, int64_t x_offset) {
  int64_t size = 1;
  for (int64_t d = 0; d < shape.size; d++) size *= shape[d];
  int64_t last = shape.size - 1;
  auto copy_as = [&]<class T>() {
    T* out = static_cast<T*>(y.data) + y_offset;
    const T* in = static_cast<const T*>(x.data) + x_offset;
    if (const int64_t axis = transposed_axis(shape, y_strides, x_strides); axis >= 0 && size > 0)
      return transpose(context, out, in, shape, y_strides, x_strides, axis);
    int64_t sy = y_strides[last], sx = x_strides[last];
    parallel_for(context, size, 1 << 15, [&](int64_t begin, int64_t end) {
      for_runs(shape, y_strides, x_strides, begin, end, [&](int64_t, int64_t i, int64_t j, int64_t count) {
        if (sy == 1 && sx == 1) std::copy(in + j, in + j + count, out + i);
        else
          for (int64_t k = 0; k < count; k++) out[i + k * sy] = in[j + k * sx];
      });
    });
  };
  if (y.dtype != x.dtype) throw std::runtime_error("both arrays must have one type");
  switch (bytes_of(y.dtype)) {
    case 1: return copy_as.template operator()<uint8_t>();
    case 2: return copy_as.template operator()<uint16_t>();
    case 4: return copy_as.template operator()<uint32_t>();
    default: return copy_as.template operator()<uint64_t>();
  }
}

// y[i] = x[index[i]]: rows of `columns` elements. An index outside of x's rows gives a row of NaN.
void gather_rows(Context& context, Out y, In x, In index, int64_t rows, int64_t columns) {
  with_float(x.dtype, [&]<class T>() {
    const T* in = x.as<T>();
    T* out = y.as<T>();
    const int32_t* from = index.as<int32_t>();
    parallel_for(context, index.size, std::max<int64_t>(1, 32768 / std::max<int64_t>(columns, 1)),
                 [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++)
        if (from[i] >= 0 && from[i] < rows) std::copy_n(in + from[i] * columns, columns, out + i * columns);
        else std::fill_n(out + i * columns, columns, T(NAN));
    });
  });
}

// dx[r] = the sum of dy[i] over the i with index[i] = r, in the order of i. Each chunk owns some of the rows r.
void gather_rows_backward(Context& context, Out dx, In dy, In index, int64_t rows, int64_t columns) {
  with_float(dx.dtype, [&]<class T>() {
    using A = acc_t<T>;
    const T* g = dy.as<T>();
    T* out = dx.as<T>();
    const int32_t* to = index.as<int32_t>();
    const int64_t grain = std::max({int64_t(1), (rows + 63) / 64, 32768 / std::max<int64_t>(columns, 1)});
    parallel_for(context, rows, grain, [&](int64_t begin, int64_t end) {
      std::fill(out + begin * columns, out + end * columns, T(0.0f));
      for (int64_t i = 0; i < index.size; i++) {
        if (to[i] < begin || to[i] >= end) continue;
        T* row = out + to[i] * columns;
        for_lanes<A>(0, columns, [&](int64_t c, int n) { store_lanes(row + c, load_lanes(row + c, n) + load_lanes(g + i * columns + c, n), n); });
      }
    });
  });
}

}  // namespace turl
