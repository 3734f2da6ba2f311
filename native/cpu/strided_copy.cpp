// Copies between arrays whose elements lie at strides: transpose, slice, concatenation, broadcast.
#include <cmath>
#include "cpu/parallel.h"
#include "cpu/strided.h"
#include "kernels.h"

namespace turl {

// y[y_offset + i y_strides] = x[x_offset + i x_strides] for every i of the space `shape`; the rest of y stays as it is.
void strided_copy(Context& context, Out y, In x, Ints shape, Ints y_strides, Ints x_strides, int64_t y_offset, int64_t x_offset) {
  int64_t size = 1;
  for (int64_t d = 0; d < shape.size; d++) size *= shape[d];
  int64_t last = shape.size - 1;
  auto copy_as = [&]<class T>() {
    T* out = static_cast<T*>(y.data) + y_offset;
    const T* in = static_cast<const T*>(x.data) + x_offset;
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
        for (int64_t c = 0; c < columns; c++)
          out[i * columns + c] = from[i] >= 0 && from[i] < rows ? in[from[i] * columns + c] : T(NAN);
    });
  });
}

// dx[r] = the sum of dy[i] over the i with index[i] = r, in the order of i. Each chunk takes some of the columns.
void gather_rows_backward(Context& context, Out dx, In dy, In index, int64_t rows, int64_t columns) {
  with_float(dx.dtype, [&]<class T>() {
    using A = acc_t<T>;
    const T* g = dy.as<T>();
    T* out = dx.as<T>();
    const int32_t* to = index.as<int32_t>();
    parallel_for(context, columns, 64, [&](int64_t begin, int64_t end) {
      for (int64_t r = 0; r < rows; r++) std::fill(out + r * columns + begin, out + r * columns + end, T(0.0f));
      for (int64_t i = 0; i < index.size; i++)
        if (to[i] >= 0 && to[i] < rows)
          for (int64_t c = begin; c < end; c++)
            out[to[i] * columns + c] = T(A(out[to[i] * columns + c]) + A(g[i * columns + c]));
    });
  });
}

}  // namespace turl
