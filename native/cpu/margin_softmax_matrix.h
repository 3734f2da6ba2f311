// Tiles of classes of the margin softmax, for bfloat16 embeddings on matrix units (matrix_units.h). MatrixTiles replaces VectorTiles.
//
// The normalised prototypes v and the gradients p of the logits are float32; as the sum of two bfloat16, high + low, they keep 16 bits.
// So each product is a sum of products of parts: a = v_low g + v_high g, dv = p_low g + p_high g and
// dg = p_low v_high + p_high v_low + p_high v_high. The relative error of a product is then 2^-17, much smaller than that of g.
#pragma once
#include "cpu/bfloat16_rows.h"
#include "cpu/margin_softmax_tiles.h"
#include "cpu/matrix_units.h"

#if defined(__AVX512BW__)

namespace turl {

// high + low = 32 floats within 2^-17 of each.
struct Split {
  __m512i high, low;

  template <class Units> static Split of(vfloat first, vfloat second) {
    const __m512i high = Units::round(first, second);
    const auto half = [&]<int index>() { return widen_lanes(vhalf(_mm512_maskz_extracti64x4_epi64(255, high, index))); };
    return {high, Units::round(first - half.template operator()<0>(), second - half.template operator()<1>())};
  }
};

// The high and the low parts of a matrix of floats: two matrices of bfloat16 [rows, row], one after the other.
struct Parts {
  bfloat16 *high, *low;
  int64_t row;

  // Where the next row of `length` elements begins: an odd number of cache lines further, so that rows fall into different sets of a cache.
  static int64_t row_of(int64_t length) { return length + (length / unit_depth % 2 == 0 ? unit_depth : 0); }
  Parts(float*& memory, int64_t rows, int64_t length) : row(row_of(length)) {
    high = reinterpret_cast<bfloat16*>(memory), low = high + rows * row;
    memory += rows * row;
  }
  static int64_t floats(int64_t rows, int64_t length) { return rows * row_of(length); }
  void put(int64_t at, Split split) const { _mm512_storeu_si512(high + at, split.high), _mm512_storeu_si512(low + at, split.low); }
};

template <class Units> struct MatrixTiles : Classes {
  using A = float;
  static constexpr int64_t block = 2 * unit_side, unit_size = unit_side * unit_side;
  float epsilon;
  const float* w;
  int64_t columns, elements;  // samples and elements padded to blocks
  int64_t rows_g, rows_t, sums;
  Pair *along_elements, *along_samples;  // g in tiles of pairs: [D / 32][B / 16] and [B / 32][D / 16]

  MatrixTiles(Context& context, In g_in, In w_in, int64_t samples, int64_t classes, int64_t size, int64_t groups, double epsilon)
      : Classes{samples, classes, size, groups, 64}, epsilon(float(epsilon)), w(w_in.as<float>()) {
    columns = round_up(samples, block), elements = round_up(size, block);
    rows_g = elements + unit_side, rows_t = columns + unit_side, sums = columns * rows_g;
    along_elements = call_memory<Pair>(context, elements * columns / 2);
    along_samples = call_memory<Pair>(context, elements * columns / 2);
    const bfloat16* g = g_in.as<bfloat16>();
    const std::vector<bfloat16> zero(static_cast<size_t>(elements), bfloat16(0.0f));
    const auto row = [&](int64_t i) { return i < samples ? g + i * size : zero.data(); };
    for (int64_t e = 0; e < elements; e += block) {
      const __mmask32 mask = first_of(size - e);
      for (int64_t i = 0; i < columns; i += unit_side) {
        vfloat rows[lanes];
        for (int64_t r = 0; r < lanes; r++) rows[r] = vfloat(_mm512_maskz_loadu_epi16(mask, row(i + r) + e));
        transpose(rows);
        float* to = reinterpret_cast<float*>(along_elements + (e / block * columns + i) * unit_side);
        for (int64_t r = 0; r < lanes; r++) store(to + r * lanes, rows[r]);
      }
      for (int64_t i = 0; i < columns; i += 2)
        interleave(along_samples + (i / block * elements + e) * unit_side + i % block / 2 * unit_side, row(i) + e, row(i + 1) + e,
                   mask, 0, unit_size);
    }
  }

  int64_t own(bool backward) const {
    const int64_t of_v = tile * groups + elements + Parts::floats(tile, elements);
    if (!backward) return of_v;
    return of_v + Parts::floats(tile, columns) + Parts::floats(columns, tile) + tile * (elements + rows_g + groups);
  }

  void logits(int64_t index, float* own, float* a) const {
    const Own o(*this, own);
    const int64_t n = count(index);
    normalise(index, o);
    NextLines next = rows(w, index + 1);
    const int64_t steps = ceil_div(n, block) * columns / block * elements / block, lines = ceil_div(tile * size / 16, steps);
    Units unit;
    Units::fence();
    for (int64_t t = 0; t < n; t += block)
      for (int64_t i = 0; i < columns; i += block) {
        zero_sums(unit);
        const Pair* g = along_elements + i * unit_side;
        for (int64_t e = 0; e < elements; e += block, g += columns * unit_side) {
          for (int64_t l = 0; l < lines; l++) next.fetch();
          multiply(unit, o.v, t * o.v.row + e, g);
        }
        store_sums(unit, a + t * rows_t + i, rows_t);
      }
  }

  void gradients(int64_t index, float* own, float* a, float* dg, bool add, float* dw) const {
    const Own o(*this, own);
    const int64_t n = count(index), padded = round_up(n, block);
    std::fill(a + n * rows_t, a + padded * rows_t, 0.0f);
    arrange(padded, o, a);
    Units unit;
    Units::fence();
    for (int64_t t = 0; t < n; t += block)
      for (int64_t e = 0; e < elements; e += block) {
        zero_sums(unit);
        for (int64_t i = 0; i < columns; i += block)
          multiply(unit, o.p, t * o.p.row + i, along_samples + (i / block * elements + e) * unit_side);
        store_sums(unit, o.dv + t * rows_g + e, rows_g);
      }
    for (int64_t i = 0; i < columns; i += block)
      for (int64_t e = 0; e < elements; e += block) {
        float* sum = dg + i * rows_g + e;
        if (add) load_sums(unit, sum, rows_g);
        else zero_sums(unit);
        for (int64_t t = 0; t < n; t += block) {
          const int64_t right = (t / block * elements + e) * unit_side;
          multiply(unit, o.transposed, i * o.transposed.row + t, o.v_high + right);
          multiply_again(unit, o.v_low + right);
        }
        store_sums(unit, sum, rows_g);
      }
    to_prototypes(index, dw, o.dv, rows_g, w, o.inverse, o.projection, epsilon);
  }

 private:
  // How a chunk divides the memory `own`. What comes after v is for the gradients only.
  struct Own {
    float *inverse, *scaled, *rest;  // [tile, K]; [D], a row of v
    Parts v, p, transposed;          // [tile, D]; [tile, B]; p transposed
    Pair *v_high, *v_low;            // v once more, each two classes side by side in tiles of pairs: [tile / 32][D / 16]
    float *dv, *projection;          // [tile, rows_g]; [tile, K]

    Own(const MatrixTiles& m, float* memory)
        : inverse(memory), scaled(inverse + m.tile * m.groups), rest(scaled + m.elements), v(rest, m.tile, m.elements),
          p(rest, m.tile, m.columns), transposed(rest, m.columns, m.tile) {
      v_high = reinterpret_cast<Pair*>(rest), v_low = v_high + m.tile * m.elements / 2;
      dv = rest + m.tile * m.elements, projection = dv + m.tile * m.rows_g;
    }
  };

  // The norms and both parts of v of a tile, with zeros up to whole blocks.
  void normalise(int64_t index, const Own& o) const {
    const int64_t n = count(index);
    inverse_norms(o.inverse, w + index * tile * size, n * groups, length, epsilon);
    std::fill(o.scaled, o.scaled + elements, 0.0f);
    for (int64_t t = 0; t < n; t++) {
      const float *from = w + (index * tile + t) * size, *scales = o.inverse + t * groups;
      if (length % block == 0) {
        for (int64_t k = 0, e = 0; k < groups; k++)
          for (const vfloat scale = splat(scales[k]); e < (k + 1) * length; e += block)
            o.v.put(t * o.v.row + e, Split::of<Units>(scale * load(from + e), scale * load(from + e + lanes)));
        continue;
      }
      for (int64_t k = 0; k < groups; k++) scale_group(o.scaled + k * length, from + k * length, scales[k], length);
      for (int64_t e = 0; e < elements; e += block)
        o.v.put(t * o.v.row + e, Split::of<Units>(load(o.scaled + e), load(o.scaled + e + lanes)));
    }
    for (int64_t t = n; t < round_up(n, block); t++)
      for (int64_t e = 0; e < elements; e += block) o.v.put(t * o.v.row + e, Split{__m512i{}, __m512i{}});
  }

  // Brings p and v into the layouts that the products of the gradients need: p in two parts, both parts transposed, and v in pairs of classes.
  void arrange(int64_t classes, const Own& o, const float* a) const {
    for (int64_t t = 0; t < classes; t++)
      for (int64_t i = 0; i < columns; i += block)
        o.p.put(t * o.p.row + i, Split::of<Units>(load(a + t * rows_t + i), load(a + t * rows_t + i + lanes)));
    const auto part = [&](const bfloat16* v, const bfloat16* p, bfloat16* transposed, Pair* pairs) {
      for (int64_t t = 0; t < classes; t += block) {
        const bfloat16* rows[block];
        for (int64_t r = 0; r < block; r++) rows[r] = p + (t + r) * o.p.row;
        for (int64_t i = 0; i < columns; i += block)
          transpose_block(transposed + i * o.transposed.row + t, o.transposed.row, rows, i, block);
        for (int64_t e = 0; e < elements; e += block)
          for (int64_t r = 0; r < block; r += 2)
            interleave(pairs + (t / block * elements + e) * unit_side + r / 2 * unit_side, v + (t + r) * o.v.row + e,
                       v + (t + r + 1) * o.v.row + e, ~__mmask32(0), 0, unit_size);
      }
    };
    part(o.v.high, o.p.high, o.transposed.high, o.v_high);
    part(o.v.low, o.p.low, o.transposed.low, o.v_low);
  }

  // Adds the products of 32 rows from `at` on, first of the low part, then of the high one, with two tiles of pairs, one after the other.
  static void multiply(Units& unit, const Parts& left, int64_t at, const Pair* right) {
    unit.template load<6>(right, 64), unit.template load<7>(right + unit_size, 64);
    for (const bfloat16* part : {left.low + at, left.high + at}) {
      unit.template load<4>(part, left.row * 2);
      unit.template multiply<0, 4, 6>(), unit.template multiply<1, 4, 7>();
      unit.template load<5>(part + unit_side * left.row, left.row * 2);
      unit.template multiply<2, 5, 6>(), unit.template multiply<3, 5, 7>();
    }
  }
  // Adds the products of the same rows of the high part, which are still in the units, with two other tiles.
  static void multiply_again(Units& unit, const Pair* right) {
    unit.template load<6>(right, 64);
    unit.template multiply<0, 4, 6>(), unit.template multiply<2, 5, 6>();
    unit.template load<7>(right + unit_size, 64);
    unit.template multiply<1, 4, 7>(), unit.template multiply<3, 5, 7>();
  }
};

}  // namespace turl
#endif
