// Reductions of x [outer, n, inner] over n. Sums are formed in double, in an order that depends on the sizes only.
#include <algorithm>
#include "cuda/device.h"
#include "kernels.h"

namespace turl {
namespace {

constexpr int columns = 32, lines = 8;

// A block sums one chunk of n for 32 outputs of one outer: each line takes every 8th row. For inner = 1 the 32 columns take
// consecutive elements of the one output instead. partial [chunks, outer * inner].
template <class T, bool row>
__global__ void sum_kernel(double* partial, const T* x, int64_t outer, int64_t n, int64_t inner, int64_t chunk_rows) {
  begin_kernel();
  TURL_SHARED(double, sums, [lines][columns]);
  int64_t groups = row ? 1 : ceil_div<int64_t>(inner, columns);
  int64_t o = blockIdx.x / groups, j = row ? 0 : blockIdx.x % groups * columns + threadIdx.x;
  int64_t begin = blockIdx.y * chunk_rows, end = begin + chunk_rows < n ? begin + chunk_rows : n;
  double sum = 0;
  if (row)
    for (int64_t i = begin + threadIdx.y * columns + threadIdx.x; i < end; i += lines * columns) sum += double(float(x[o * n + i]));
  else if (j < inner)
    for (int64_t i = begin + threadIdx.y; i < end; i += lines) sum += double(float(x[(o * n + i) * inner + j]));
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0) return;
  for (int line = 1; line < lines; line++) sum += sums[line][threadIdx.x];
  double* to = partial + blockIdx.y * outer * inner + o * inner;
  if (!row) {
    if (j < inner) to[j] = sum;
    return;
  }
  sums[0][threadIdx.x] = sum;
  __syncwarp();
  if (threadIdx.x != 0) return;
  for (int column = 1; column < columns; column++) sum += sums[0][column];
  *to = sum;
}

template <class Y> __global__ void sum_chunks_kernel(Y* y, const double* partial, int64_t outputs, int64_t chunks, double scale) {
  begin_kernel();
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= outputs) return;
  double sum = 0;
  for (int64_t chunk = 0; chunk < chunks; chunk++) sum += partial[chunk * outputs + i];
  y[i] = Y(float(sum * scale));
}

// One output a thread.
template <class T>
__global__ void max_forward_kernel(T* y, int32_t* index, const T* x, int64_t outer, int64_t n, int64_t inner) {
  begin_kernel();
  int64_t output = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (output >= outer * inner) return;
  const T* from = x + output / inner * n * inner + output % inner;
  float best = float(from[0]);
  int32_t place = 0;
  for (int64_t i = 1; i < n; i++) {
    float v = float(from[i * inner]);
    if (v > best || (v != v && best == best)) best = v, place = int32_t(i);
  }
  y[output] = T(best), index[output] = place;
}

template <class T>
__global__ void max_backward_kernel(T* dx, const T* dy, const int32_t* index, int64_t size, int64_t n, int64_t inner) {
  begin_kernel();
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= size) return;
  int64_t from = i / (n * inner) * inner + i % inner;
  dx[i] = index[from] == i / inner % n ? dy[from] : T(0.0f);
}

}  // namespace

// y [outer, inner] = scale * sum over n
void sum(Context& context, Out y, In x, int64_t outer, int64_t n, int64_t inner, double scale) {
  with_float(x.dtype, [&]<class T>() {
    int64_t outputs = outer * inner, chunk_rows = std::max<int64_t>(inner == 1 ? 4096 : 256, ceil_div<int64_t>(n, 256));
    int64_t chunks = std::max<int64_t>(1, ceil_div(n, chunk_rows));
    auto* partial = static_cast<double*>(context.scratch(size_t(std::max<int64_t>(chunks * outputs, 1)) * sizeof(double)));
    dim3 block = {columns, lines, 1};
    if (inner == 1)
      launch(context, sum_kernel<T, true>, dim3{unsigned(outer), unsigned(chunks), 1}, block, 0, partial, x.as<T>(), outer, n, inner,
             chunk_rows);
    else
      launch(context, sum_kernel<T, false>, dim3{unsigned(outer * ceil_div<int64_t>(inner, columns)), unsigned(chunks), 1}, block, 0,
             partial, x.as<T>(), outer, n, inner, chunk_rows);
    with_float(y.dtype, [&]<class Y>() {
      launch(context, sum_chunks_kernel<Y>, blocks_for(outputs, 128), 128, 0, y.as<Y>(), partial, outputs, chunks, scale);
    });
  });
}

// y [outer, inner] = the maximum over n >= 1, index its first place; a NaN counts as larger than any number.
void max_forward(Context& context, Out y, Out index, In x, int64_t outer, int64_t n, int64_t inner) {
  with_float(x.dtype, [&]<class T>() {
    launch(context, max_forward_kernel<T>, blocks_for(outer * inner, 128), 128, 0, y.as<T>(), index.as<int32_t>(), x.as<T>(), outer,
           n, inner);
  });
}

// dx [outer, n, inner] = dy at the index, 0 elsewhere.
void max_backward(Context& context, Out dx, In dy, In index, int64_t outer, int64_t n, int64_t inner) {
  with_float(dx.dtype, [&]<class T>() {
    launch(context, max_backward_kernel<T>, blocks_for(dx.size, 256), 256, 0, dx.as<T>(), dy.as<T>(), index.as<int32_t>(), dx.size, n,
           inner);
  });
}

}  // namespace turl
