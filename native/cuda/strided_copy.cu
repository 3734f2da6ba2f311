// Copies between arrays whose elements lie at strides, and rows by index: one element a thread.
#include "cuda/device.h"
#include "cuda/strided.h"
#include "kernels.h"

namespace turl {
namespace {

template <class T> __global__ void strided_copy_kernel(T* y, const T* x, Space space, int64_t n) {
  begin_kernel();
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int64_t to, from;
  space.offsets(i, to, from);
  y[to] = x[from];
}

template <class T>
__global__ void gather_rows_kernel(T* y, const T* x, const int32_t* index, int64_t size, int64_t rows, int64_t columns) {
  begin_kernel();
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= size) return;
  int64_t row = index[i / columns];
  y[i] = row >= 0 && row < rows ? x[row * columns + i % columns] : T(NAN);
}

// A thread owns a column of dx and adds the rows of dy in order, so that no two threads write to one place.
template <class T>
__global__ void gather_rows_backward_kernel(T* dx, const T* dy, const int32_t* index, int64_t count, int64_t rows, int64_t columns) {
  begin_kernel();
  int64_t c = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c >= columns) return;
  for (int64_t r = 0; r < rows; r++) dx[r * columns + c] = T(0.0f);
  for (int64_t i = 0; i < count; i++) {
    int64_t row = index[i];
    if (row >= 0 && row < rows) dx[row * columns + c] = T(float(dx[row * columns + c]) + float(dy[i * columns + c]));
  }
}

}  // namespace

// y[y_offset + i y_strides] = x[x_offset + i x_strides] for every i of the space `shape`; the rest of y stays as it is.
void strided_copy(Context& context, Out y, In x, Ints shape, Ints y_strides, Ints x_strides, int64_t y_offset, int64_t x_offset) {
  if (y.dtype != x.dtype) throw std::runtime_error("both arrays must have one type");
  Space space(shape, y_strides, x_strides);
  auto copy_as = [&]<class T>() {
    launch(context, strided_copy_kernel<T>, blocks_for(space.size(), 256), 256, 0, static_cast<T*>(y.data) + y_offset,
           static_cast<const T*>(x.data) + x_offset, space, space.size());
  };
  switch (bytes_of(y.dtype)) {
    case 1: return copy_as.template operator()<uint8_t>();
    case 2: return copy_as.template operator()<uint16_t>();
    default: return copy_as.template operator()<uint32_t>();
  }
}

// y[i] = x[index[i]]: rows of `columns` elements. An index outside of x's rows gives a row of NaN.
void gather_rows(Context& context, Out y, In x, In index, int64_t rows, int64_t columns) {
  with_float(x.dtype, [&]<class T>() {
    launch(context, gather_rows_kernel<T>, blocks_for(y.size, 256), 256, 0, y.as<T>(), x.as<T>(), index.as<int32_t>(), y.size, rows,
           columns);
  });
}

// dx[r] = the sum of dy[i] over the i with index[i] = r, in the order of i.
void gather_rows_backward(Context& context, Out dx, In dy, In index, int64_t rows, int64_t columns) {
  with_float(dx.dtype, [&]<class T>() {
    launch(context, gather_rows_backward_kernel<T>, blocks_for(columns, 64), 64, 0, dx.as<T>(), dy.as<T>(), index.as<int32_t>(),
           index.size, rows, columns);
  });
}

}  // namespace turl
