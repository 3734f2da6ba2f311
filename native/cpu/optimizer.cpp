// Optimiser steps in one pass over memory (native/optimizer.h), and the gradient's norm.
#include <limits>
#include "cpu/parallel.h"
#include "kernels.h"
#include "optimizer.h"

namespace turl {
namespace {
constexpr int64_t grain = 1 << 15;

// The update kernels work in place: each output is the input it came from.
void same(const Out& y, const In& x) {
  if (y.data != x.data) throw std::runtime_error("an optimiser step works in place");
}

template <class F> void with_parameter(DType dtype, F&& f) {
  if (dtype == DType::float64) return f.template operator()<double>();
  f.template operator()<float>();
}
}  // namespace

// y[index] = sum of x^2 in double; the other elements of y (which is y0) stay. Pieces are added in order.
void square_sum(Context& context, Out y, In x, In y0, int64_t index) {
  same(y, y0);
  if (index < 0 || index >= y.size) throw std::runtime_error("index out of range");
  with_parameter(x.dtype, [&]<class T>() {
    const T* in = x.as<T>();
    int64_t chunks = (x.size + grain - 1) / grain;
    auto* partial = static_cast<double*>(context.scratch(size_t(chunks + 1) * sizeof(double)));
    parallel_for(context, x.size, grain, [&](int64_t begin, int64_t end) {
      double sums[8] = {};
      int64_t i = begin;
      for (; i + 8 <= end; i += 8)
        for (int k = 0; k < 8; k++) sums[k] += double(in[i + k]) * double(in[i + k]);
      for (; i < end; i++) sums[0] += double(in[i]) * double(in[i]);
      double sum = 0;
      for (double part : sums) sum += part;
      partial[begin / grain] = sum;
    });
    double total = 0;
    for (int64_t chunk = 0; chunk < chunks; chunk++) total += partial[chunk];
    y.as<float>()[index] = float(std::min(total, double(std::numeric_limits<float>::max())));
    if (!(total <= std::numeric_limits<double>::max())) y.as<float>()[index] = std::numeric_limits<float>::quiet_NaN();
  });
}

// scale = min(1, max_norm / sqrt(sum of squares)).
void clip_scale(Context&, Out scale, In squares, double max_norm) {
  double total = 0;
  for (int64_t i = 0; i < squares.size; i++) total += double(squares.as<float>()[i]);
  scale.as<float>()[0] = float(std::sqrt(total) > max_norm ? max_norm / std::sqrt(total) : 1.0);
}

void sgd_step(Context& context, Out p, Out v, In p0, In v0, In g, In scale, double lr, double momentum, double weight_decay) {
  same(p, p0), same(v, v0);
  with_parameter(p.dtype, [&]<class T>() {
    SgdRule<T> rule = {T(lr), T(momentum), T(weight_decay)};
    T *pp = p.as<T>(), *vv = v.as<T>();
    const T *gg = g.as<T>(), by = T(scale.as<float>()[0]);
    parallel_for(context, p.size, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) rule(pp[i], vv[i], by * gg[i]);
    });
  });
}

void adamw_step(Context& context, Out p, Out m, Out v, In p0, In m0, In v0, In g, In scale, double lr, double beta1, double beta2,
                double epsilon, double weight_decay, int64_t step) {
  same(p, p0), same(m, m0), same(v, v0);
  with_parameter(p.dtype, [&]<class T>() {
    auto rule = adamw_rule<T>(lr, beta1, beta2, epsilon, weight_decay, step);
    T *pp = p.as<T>(), *mm = m.as<T>(), *vv = v.as<T>();
    const T *gg = g.as<T>(), by = T(scale.as<float>()[0]);
    parallel_for(context, p.size, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) rule(pp[i], mm[i], vv[i], by * gg[i]);
    });
  });
}

}  // namespace turl
