// The matrix units of a processor (Intel's AMX). They have eight tiles of 16 rows of 64 bytes: sums are [16, 16] float32, operands bfloat16.
//
//   Units unit;                                    configures the units for this thread; they are released at the end of its scope
//   unit.load<4>(a, bytes_a);                      16 rows of 32 bfloat16, `bytes_a` apart: a(row, k)
//   unit.load<6>(b, bytes_b);                      16 rows of 16 pairs: b(2 r, j), b(2 r + 1, j) side by side
//   unit.multiply<0, 4, 6>();                      sums 0 (row, j) += sum over k of a(row, k) b(k, j)
//   unit.zero<0>(); unit.load<0>(sums, bytes); unit.store<0>(sums, bytes);
//   Units::round(low, high)                        32 sums to bfloat16, to nearest even
//
// `AmxUnits` are the real units. `PlainUnits` do the same in plain loops, so that the kernels can be tested on any machine.
// TURL_MATRIX_UNITS=plain chooses them, =none does without any; without the variable the real units are used where there are some.
#pragma once
#include <cstdint>
#include <cstdlib>
#include "cpu/bfloat16_rows.h"
#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace turl {

constexpr int64_t unit_side = 16, unit_depth = 32;  // rows and columns of a tile of sums; values of the inner dimension at a time

enum class MatrixUnits { none, plain, amx };

#if defined(__x86_64__) && defined(__linux__)

class AmxUnits {
 public:
  // Whether the processor has AMX and the system lets this process use it.
  static bool usable() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    bool there = (d >> 22 & 1) && (d >> 24 & 1);  // bfloat16 and tiles
    there = there && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);  // AVX-512 BF16, to round
    constexpr long request = 0x1023, tile_data = 18;    // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return there && syscall(SYS_arch_prctl, request, tile_data) == 0;
  }

  AmxUnits() {
    struct alignas(64) {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } layout;
    asm volatile("ldtilecfg %0" ::"m"(layout));
  }
  ~AmxUnits() { asm volatile("tilerelease"); }
  AmxUnits(const AmxUnits&) = delete;
  AmxUnits& operator=(const AmxUnits&) = delete;

  // The compiler does not know what memory load() reads. So fence() must be called after the stores to it and before the first load.
  static void fence() { asm volatile("" ::: "memory"); }
  template <int tile> void zero() { asm volatile("tilezero %%tmm%c0" ::"i"(tile)); }
  template <int tile> void load(const void* from, int64_t bytes) {
    asm volatile("tileloadd (%1,%2,1), %%tmm%c0" ::"i"(tile), "r"(from), "r"(bytes));
  }
  template <int tile> void store(float* to, int64_t bytes) {
    asm volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(tile), "r"(to), "r"(bytes) : "memory");
  }
  template <int sums, int a, int b> void multiply() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sums), "i"(a), "i"(b));
  }
#if defined(__AVX512BW__)
  static __m512i round(vfloat low, vfloat high) {  // denormals to zero, as products take them
    __m512i row;
    asm("vcvtne2ps2bf16 %1, %2, %0" : "=v"(row) : "v"(low), "v"(high));
    return row;
  }
#endif
};

#endif

class PlainUnits {
 public:
  static void fence() {}
  template <int tile> void zero() { memset(tiles_[tile], 0, sizeof tiles_[tile]); }
  template <int tile> void load(const void* from, int64_t bytes) {
    for (int64_t r = 0; r < unit_side; r++) memcpy(tiles_[tile][r], static_cast<const char*>(from) + r * bytes, 64);
  }
  template <int tile> void store(float* to, int64_t bytes) {
    for (int64_t r = 0; r < unit_side; r++) memcpy(reinterpret_cast<char*>(to) + r * bytes, tiles_[tile][r], 64);
  }
  template <int sums, int a, int b> void multiply() {
    bfloat16 left[unit_side][unit_depth], right[unit_side][unit_side][2];
    float total[unit_side][unit_side];
    memcpy(left, tiles_[a], sizeof left), memcpy(right, tiles_[b], sizeof right), memcpy(total, tiles_[sums], sizeof total);
    for (int64_t r = 0; r < unit_side; r++)
      for (int64_t k = 0; k < unit_depth; k++)
        for (int64_t j = 0; j < unit_side; j++) total[r][j] += float(left[r][k]) * float(right[k / 2][j][k % 2]);
    memcpy(tiles_[sums], total, sizeof total);
  }
#if defined(__AVX512BW__)
  static __m512i round(vfloat low, vfloat high) { return round_row(low, high); }
#endif

 private:
  char tiles_[8][unit_side][64];
};

#if !(defined(__x86_64__) && defined(__linux__))
struct AmxUnits : PlainUnits {
  static bool usable() { return false; }
};
#endif

inline MatrixUnits matrix_units() {
  static const MatrixUnits chosen = [] {
    const char* named = std::getenv("TURL_MATRIX_UNITS");
    const std::string wanted = named ? named : "";
    if (wanted == "plain") return MatrixUnits::plain;
    if (wanted == "none") return MatrixUnits::none;
    if (wanted != "") throw std::runtime_error("TURL_MATRIX_UNITS: expected plain or none, got " + wanted);
    return AmxUnits::usable() ? MatrixUnits::amx : MatrixUnits::none;
  }();
  return chosen;
}

// Two by two tiles of sums: tiles 0 to 3 are 32 rows of 32 floats, rows `row` floats apart in memory. Operands use tiles 4 to 7.
template <class Units> void zero_sums(Units& unit) {
  unit.template zero<0>(), unit.template zero<1>(), unit.template zero<2>(), unit.template zero<3>();
}
template <class Units> void load_sums(Units& unit, const float* from, int64_t row) {
  unit.template load<0>(from, row * 4), unit.template load<1>(from + unit_side, row * 4);
  unit.template load<2>(from + unit_side * row, row * 4), unit.template load<3>(from + unit_side * (row + 1), row * 4);
}
template <class Units> void store_sums(Units& unit, float* to, int64_t row) {
  unit.template store<0>(to, row * 4), unit.template store<1>(to + unit_side, row * 4);
  unit.template store<2>(to + unit_side * row, row * 4), unit.template store<3>(to + unit_side * (row + 1), row * 4);
}
// Adds the products of two left operands, at a and b, rows `bytes` apart, with two right ones, at `right` and `next`, rows `pair_bytes` apart.
template <class Units>
void multiply_four(Units& unit, const void* a, const void* b, int64_t bytes, const void* right, const void* next, int64_t pair_bytes) {
  unit.template load<6>(right, pair_bytes);
  unit.template load<4>(a, bytes);
  unit.template multiply<0, 4, 6>();
  unit.template load<7>(next, pair_bytes);
  unit.template multiply<1, 4, 7>();
  unit.template load<5>(b, bytes);
  unit.template multiply<2, 5, 6>();
  unit.template multiply<3, 5, 7>();
}

// f.operator()<Units>() with the units of this process; matrix_units() must not be none.
template <class F> void with_units(F&& f) {
  if (matrix_units() == MatrixUnits::amx) f.template operator()<AmxUnits>();
  else f.template operator()<PlainUnits>();
}

}  // namespace turl
