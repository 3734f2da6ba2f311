#include "cuda/mma.h"
#include "cuda/async.h"
#include "emulated/sanitizer.h"

namespace turl {
namespace {

using emulated::self;
using emulated::warp_size;

float low(uint32_t pair) { return std::bit_cast<float>(pair << 16); }
float high(uint32_t pair) { return std::bit_cast<float>(pair & 0xffff0000u); }

struct Product {
  float* d;
  uint32_t a[4], b[2];
};

void multiply(void* const* arguments, uint32_t) {
  float a[16][16], b[16][8], d[16][8];
  for (int lane = 0; lane < warp_size; lane++) {
    const auto& p = *static_cast<const Product*>(arguments[lane]);
    int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; i++) {
      float* row = &a[g + i % 2 * 8][2 * t + i / 2 * 8];
      row[0] = low(p.a[i]), row[1] = high(p.a[i]);
    }
    for (int i = 0; i < 2; i++) b[2 * t + 8 * i][g] = low(p.b[i]), b[2 * t + 8 * i + 1][g] = high(p.b[i]);
    for (int i = 0; i < 4; i++) d[g + i / 2 * 8][2 * t + i % 2] = p.d[i];
  }
  for (int row = 0; row < 16; row++)
    for (int k = 0; k < 16; k++)
      for (int column = 0; column < 8; column++) d[row][column] += a[row][k] * b[k][column];
  for (int lane = 0; lane < warp_size; lane++)
    for (int i = 0; i < 4; i++)
      static_cast<Product*>(arguments[lane])->d[i] = d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
}

struct Rows {
  uint16_t row[8];
  uint32_t r[4];
};

template <bool transposed> void distribute(void* const* arguments, uint32_t) {
  auto element = [&](int matrix, int row, int column) -> uint32_t {
    if (transposed) std::swap(row, column);
    return static_cast<const Rows*>(arguments[matrix * 8 + row])->row[column];
  };
  for (int lane = 0; lane < warp_size; lane++)
    for (int i = 0; i < 4; i++)
      static_cast<Rows*>(arguments[lane])->r[i] =
          element(i, lane / 4, lane % 4 * 2) | element(i, lane / 4, lane % 4 * 2 + 1) << 16;
}

template <bool transposed> void load(uint32_t (&r)[4], const void* row, emulated::Site site) {
  Rows mine;
  emulated::check_shared(row, 16, site);
  emulated::observe_read(row, 16);
  std::memcpy(mine.row, row, 16);
  self->processor->collective(0xffffffffu, &mine, distribute<transposed>, false, site);
  std::copy(mine.r, mine.r + 4, r);
}

// A lane's registers, and the column that it writes.
struct Column {
  uint32_t r[4];
  uint16_t column[8];
};
void collect(void* const* arguments, uint32_t) {
  for (int lane = 0; lane < warp_size; lane++)
    for (int row = 0; row < 8; row++) {
      const int at = lane % 8;
      const uint32_t pair = static_cast<const Column*>(arguments[row * 4 + at / 2])->r[lane / 8];
      static_cast<Column*>(arguments[lane])->column[row] = uint16_t(pair >> at % 2 * 16);
    }
}

}  // namespace

void mma_bfloat16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, const char* file, int line) {
  Product mine{d, {a[0], a[1], a[2], a[3]}, {b0, b1}};
  self->processor->collective(0xffffffffu, &mine, multiply, false, {"mma_bfloat16", file, line});
}
void load_matrix_4(uint32_t (&r)[4], const void* row, const char* file, int line) {
  load<false>(r, row, {"load_matrix_4", file, line});
}
void load_matrix_4_transposed(uint32_t (&r)[4], const void* row, const char* file, int line) {
  load<true>(r, row, {"load_matrix_4_transposed", file, line});
}
void store_matrix_4_transposed(void* column, const uint32_t (&r)[4], const char* file, int line) {
  const emulated::Site site{"store_matrix_4_transposed", file, line};
  emulated::check_shared(column, 16, site);
  Column mine{{r[0], r[1], r[2], r[3]}, {}};
  self->processor->collective(0xffffffffu, &mine, collect, false, site);
  emulated::observe_write(column, 16);
  std::memcpy(column, mine.column, 16);
}

}  // namespace turl
