// Matrix product: y[i] = op(a[i]) op(b[i]) for i < batch, op transposing or not; op(a) [m, k], op(b) [k, n], y [m, n].
// bfloat16 is widened to float32 on the way, and the result is rounded once (or kept, if y is float32). float64 is computed as the formula
// says.
//
// A chunk computes a block of y. For each part of the inner dimension it packs b into panels, one at a time, which stay in the first-level
// cache while the register tiles of all rows are multiplied with them. Rows of a are read where they are; a transposed a is packed first.
#include <vector>
#include "cpu/gemm_tile.h"
#include "cpu/widen.h"
#include "kernels.h"

namespace turl {
namespace {

template <class T>
void plain_matmul(Context& context, T* y, const T* a, const T* b, int64_t batch, int64_t m, int64_t n, int64_t k,
                  bool transpose_a, bool transpose_b) {
  parallel_for(context, batch * m, 8, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const T *ai = a + row / m * m * k, *bi = b + row / m * n * k;
      const int64_t i = row % m;
      T* out = y + row * n;
      std::fill(out, out + n, T(0));
      for (int64_t p = 0; p < k; p++) {
        const T v = ai[transpose_a ? p * m + i : i * k + p];
        for (int64_t j = 0; j < n; j++) out[j] += v * bi[transpose_b ? j * k + p : p * n + j];
      }
    }
  });
}

// packed[p][j] = op(b)[k0 + p][first + j], [depth][tile_columns]. What will be packed next is prefetched: the next columns, or, if b is
// transposed, the next part of the inner dimension.
template <class T>
void pack_b(float* packed, const T* b, int64_t first, int64_t columns, int64_t k0, int64_t depth, int64_t n, int64_t k,
            bool transposed) {
  for (int64_t j = 0; j < tile_columns; j += lanes) {
    const int valid = int(std::clamp<int64_t>(columns - j, 0, lanes));
    if (!transposed) {
      const T* in = b + k0 * n + first + j;
      for (int64_t p = 0; p < depth; p++, in += n) {
        __builtin_prefetch(in + tile_columns);
        store(packed + p * tile_columns + j, valid == lanes ? load(in) : load(in, valid));
      }
      continue;
    }
    const T* in = b + (first + j) * k + k0;
    int64_t p = 0;
    for (; p + lanes <= depth; p += lanes) {
      vfloat block[lanes] = {};
      for (int i = 0; i < valid; i++) {
        __builtin_prefetch(in + i * k + p + depth);
        block[i] = load(in + i * k + p);
      }
      transpose(block);
      for (int i = 0; i < lanes; i++) store(packed + (p + i) * tile_columns + j, block[i]);
    }
    for (; p < depth; p++)
      for (int i = 0; i < lanes; i++) packed[p * tile_columns + j + i] = i < valid ? float(in[i * k + p]) : 0.0f;
  }
}

template <class T>
void fast_matmul(Context& context, float* y, const float* a, const T* b, int64_t batch, int64_t m, int64_t n, int64_t k,
                 bool transpose_a, bool transpose_b) {
  if (k == 0) return std::fill(y, y + batch * m * n, 0.0f);
  const int64_t rows_at_once = round_up(ceil_div(m, ceil_div(m, 192)), tile_rows), panels = ceil_div(n, tile_columns);
  const int64_t row_blocks = ceil_div(m, rows_at_once);
  const int64_t panels_at_once = std::clamp<int64_t>(batch * row_blocks * panels / 32, 1, 8);
  const int64_t panel_blocks = ceil_div(panels, panels_at_once);
  const int64_t depth = ceil_div(k, ceil_div(k, panel_depth));
  const Write first_write = depth == k && worth_streaming(y, batch * m, n) ? Write::streaming : Write::plain;
  parallel_chunks(context, batch * row_blocks * panel_blocks, [&](int64_t chunk) {
    const int64_t image = chunk / (row_blocks * panel_blocks), first_row = chunk / panel_blocks % row_blocks * rows_at_once;
    const int64_t rows = std::min(rows_at_once, m - first_row);
    const int64_t first_panel = chunk % panel_blocks * panels_at_once, last_panel = std::min(panels, first_panel + panels_at_once);
    const float* ai = a + image * m * k;
    const T* bi = b + image * n * k;
    float* panel = thread_memory<Slot::operand>(depth * tile_columns);
    float* packed_a = thread_memory<Slot::other_operand>(transpose_a ? rows_at_once * depth : 1);
    // A tile reads tile_rows rows: those past the end read the last one again.
    std::vector<const float*> in(static_cast<size_t>(rows_at_once));
    std::vector<float*> out(static_cast<size_t>(rows_at_once));
    for (int64_t r = 0; r < rows_at_once; r++) {
      const int64_t row = std::min(r, rows - 1);
      in[size_t(r)] = transpose_a ? packed_a + row * depth : ai + (first_row + row) * k;
      out[size_t(r)] = y + (image * m + first_row + row) * n;
    }
    for (int64_t k0 = 0; k0 < k; k0 += depth) {
      const int64_t count = std::min(depth, k - k0);
      if (transpose_a)
        for (int64_t p = 0; p < count; p++)
          for (int64_t r = 0; r < rows; r++) packed_a[r * depth + p] = ai[(k0 + p) * m + first_row + r];
      for (int64_t q = first_panel; q < last_panel; q++) {
        const int64_t first = q * tile_columns, columns = std::min<int64_t>(tile_columns, n - first);
        pack_b(panel, bi, first, columns, k0, count, n, k, transpose_b);
        for (int64_t r = 0; r < rows; r += tile_rows)
          tile(in.data() + r, 0, 1, transpose_a ? 0 : k0, count, panel, out.data() + r, first, rows - r, columns,
               k0 > 0 ? Write::add : first_write);
      }
    }
    if (first_write == Write::streaming) end_streaming();
  });
}

}  // namespace

void matmul(Context& context, Out y, In a, In b, int64_t batch, int64_t m, int64_t n, int64_t k, int64_t transpose_a,
            int64_t transpose_b) {
  if (y.size == 0) return;
  if (a.dtype == DType::float64)
    return plain_matmul(context, y.as<double>(), a.as<double>(), b.as<double>(), batch, m, n, k, transpose_a, transpose_b);
  const float* af = widened(context, a);
  with_narrowed(context, y, [&](float* yf) {
    with_float(b.dtype, [&]<class T>() {
      if constexpr (!std::is_same_v<T, double>)
        fast_matmul(context, yf, af, b.as<T>(), batch, m, n, k, transpose_a, transpose_b);
    });
  });
}

}  // namespace turl
