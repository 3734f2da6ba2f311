// Optimiser steps in one pass over memory (native/optimizer.h) and the gradient's norm, of many parameters in one call.
#include <limits>
#include <vector>
#include "cpu/parallel.h"
#include "kernels.h"
#include "optimizer.h"

namespace turl {
namespace {
constexpr int64_t grain = 1 << 15;

template <class F> void with_parameter(DType dtype, F&& f) {
  if (dtype == DType::float64) return f.template operator()<double>();
  f.template operator()<float>();
}

// Elements [begin, end) of array `index` of a list.
struct Piece {
  size_t index;
  int64_t begin, end;
};

template <class List> std::vector<Piece> pieces_of(const List& arrays) {
  std::vector<Piece> pieces;
  for (size_t index = 0; index < arrays.size(); index++)
    for (int64_t begin = 0; begin < arrays[index].size; begin += grain)
      pieces.push_back({index, begin, std::min(arrays[index].size, begin + grain)});
  return pieces;
}

// f(piece, its number), spread over the threads.
template <class F> void for_pieces(Context& context, const std::vector<Piece>& pieces, F&& f) {
  parallel_chunks(context, int64_t(pieces.size()), [&](int64_t i) { f(pieces[size_t(i)], size_t(i)); });
}
}  // namespace

// y[i] = sum of x_i^2, formed in double; the elements of y beyond the list are 0. Pieces are added in order. A finite sum beyond float32
// becomes the largest float; infinity and NaN become NaN.
void square_sums(Context& context, Out y, InList x) {
  if (int64_t(x.size()) > y.size) throw std::runtime_error("expected at most " + std::to_string(y.size) + " arrays");
  std::fill_n(y.as<float>(), y.size, 0.0f);
  if (x.size() == 0) return;
  with_parameter(x[0].dtype, [&]<class T>() {
    const auto pieces = pieces_of(x);
    std::vector<double> partial(pieces.size()), total(x.size());
    for_pieces(context, pieces, [&](const Piece& piece, size_t number) {
      const T* in = x[piece.index].as<T>();
      double sums[8] = {};
      int64_t i = piece.begin;
      for (; i + 8 <= piece.end; i += 8)
        for (int k = 0; k < 8; k++) sums[k] += double(in[i + k]) * double(in[i + k]);
      for (; i < piece.end; i++) sums[0] += double(in[i]) * double(in[i]);
      double sum = 0;
      for (double part : sums) sum += part;
      partial[number] = sum;
    });
    for (size_t number = 0; number < pieces.size(); number++) total[pieces[number].index] += partial[number];
    for (size_t i = 0; i < x.size(); i++)
      y.as<float>()[i] = total[i] <= std::numeric_limits<double>::max()
                             ? float(std::min(total[i], double(std::numeric_limits<float>::max())))
                             : std::numeric_limits<float>::quiet_NaN();
  });
}

// scale = min(1, max_norm / sqrt(sum of squares)).
void clip_scale(Context&, Out scale, In squares, double max_norm) {
  double total = 0;
  for (int64_t i = 0; i < squares.size; i++) total += double(squares.as<float>()[i]);
  scale.as<float>()[0] = float(std::sqrt(total) > max_norm ? max_norm / std::sqrt(total) : 1.0);
}

void sgd_step(Context& context, OutList p, OutList v, InList p0, InList v0, InList g, In scale, double lr, double momentum,
              double weight_decay) {
  expect_lists(p, {v.size(), p0.size(), v0.size(), g.size()});
  expect_in_place(p, p0), expect_in_place(v, v0);
  if (p.size() == 0) return;
  with_parameter(p[0].dtype, [&]<class T>() {
    const SgdRule<T> rule = {T(lr), T(momentum), T(weight_decay)};
    const T by = T(scale.as<float>()[0]);
    for_pieces(context, pieces_of(p), [&](const Piece& piece, size_t) {
      T *pp = p[piece.index].as<T>(), *vv = v[piece.index].as<T>();
      const T* gg = g[piece.index].as<T>();
      for (int64_t i = piece.begin; i < piece.end; i++) rule(pp[i], vv[i], by * gg[i]);
    });
  });
}

void adamw_step(Context& context, OutList p, OutList m, OutList v, InList p0, InList m0, InList v0, InList g, In scale, double lr,
                double beta1, double beta2, double epsilon, double weight_decay, int64_t step) {
  expect_lists(p, {m.size(), v.size(), p0.size(), m0.size(), v0.size(), g.size()});
  expect_in_place(p, p0), expect_in_place(m, m0), expect_in_place(v, v0);
  if (p.size() == 0) return;
  with_parameter(p[0].dtype, [&]<class T>() {
    const auto rule = adamw_rule<T>(lr, beta1, beta2, epsilon, weight_decay, step);
    const T by = T(scale.as<float>()[0]);
    for_pieces(context, pieces_of(p), [&](const Piece& piece, size_t) {
      T *pp = p[piece.index].as<T>(), *mm = m[piece.index].as<T>(), *vv = v[piece.index].as<T>();
      const T* gg = g[piece.index].as<T>();
      const auto local = rule;  // a copy stays in registers: the stores below cannot change it
      for (int64_t i = piece.begin; i < piece.end; i++) local(pp[i], mm[i], vv[i], by * gg[i]);
    });
  });
}

}  // namespace turl
