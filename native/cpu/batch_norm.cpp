// Batch normalisation over the rows of x [rows, channels], optionally followed by PReLU or by the addition of a residual.
//   h = (x - mean) inverse,  z = gamma h + beta,  y = z, or z > 0 ? z : slope z, or z + residual;  inverse = 1 / sqrt(variance + epsilon)
//   g = dy, or with PReLU dy (z > 0 ? 1 : slope);  dbeta = sum g,  dgamma = sum g h,  dslope = sum over z <= 0 of z dy
//   dx = gamma inverse (g - dbeta / rows - h dgamma / rows) in training, gamma inverse g otherwise;  plus `more`
// moments [2, channels] are mean and inverse; statistics [2, channels] are mean and variance. gamma and beta may be left out (1 and 0), and
// so may slope, residual and more (nothing is done). Training reads x once more for its statistics, unless the kernel that made x has left
// them (x_statistics), and leaves those of y if y_statistics is given. Backward reads x and dy twice: first from the end, where the caches
// still hold what was written last, then from the beginning. Sums are formed in float over at most 128 rows and in double from there on, in
// an order that depends on the sizes only.
#include <cmath>
#include "cpu/channel_sums.h"
#include "kernels.h"

namespace turl {
namespace {

constexpr int64_t rows_ahead = 16;  // to prefetch: in blocks of channels (channels.h) memory is read in strides, which hardware does not foresee

// The channels' constants: h = (x - mean) inverse, z = scale (x - mean) + shift.
template <class A> struct Constants {
  const A* mean;
  std::vector<A> scale, shift, slope;
  Constants(const A* moments, In gamma, In beta, In slopes, int64_t channels)
      : mean(moments), scale(mean + channels, mean + 2 * channels), shift(size_t(channels), A(0)), slope(size_t(channels), A(1)) {
    for (int64_t c = 0; c < channels; c++) {
      if (gamma.size > 0) scale[size_t(c)] *= gamma.as<A>()[c];
      if (beta.size > 0) shift[size_t(c)] = beta.as<A>()[c];
      if (slopes.size > 0) slope[size_t(c)] = slopes.as<A>()[c];
    }
  }
  template <class V> struct Channel { V mean, scale, shift, slope; };
  template <class V> Channel<V> at(int64_t c) const {
    return {get<V>(mean + c), get<V>(scale.data() + c), get<V>(shift.data() + c), get<V>(slope.data() + c)};
  }
};

// f.operator()<a, b, ...>(): flags known at run time as template arguments.
template <bool... known, class F> void with_flags(F&& f) { f.template operator()<known...>(); }
template <bool... known, class F, class... Rest> void with_flags(F&& f, bool flag, Rest... rest) {
  if (flag) with_flags<known..., true>(f, rest...);
  else with_flags<known..., false>(f, rest...);
}

// The moments of the batch from its statistics; running <- (1 - momentum) running + momentum batch, with the unbiased variance.
template <class A>
void update(Out moments, Out running_mean, Out running_variance, const A* statistics, In running_mean0, In running_variance0, int64_t rows,
            int64_t channels, double momentum, double epsilon) {
  A *m = moments.as<A>(), *rm = running_mean.as<A>(), *rv = running_variance.as<A>();
  const A *rm0 = running_mean0.as<A>(), *rv0 = running_variance0.as<A>();
  const double n = double(rows);
  for (int64_t c = 0; c < channels; c++) {
    const double mean = double(statistics[c]), variance = double(statistics[channels + c]);
    m[c] = A(mean), m[channels + c] = A(1 / std::sqrt(variance + epsilon));
    rm[c] = A((1 - momentum) * double(rm0[c]) + momentum * mean);
    rv[c] = A((1 - momentum) * double(rv0[c]) + momentum * variance * n / (n - 1));
  }
}

// Computes y, and its statistics unless `statistics` is empty.
template <class T>
void forward(Context& context, Out y, Out statistics, In x, In moments, In gamma, In beta, In slope, In residual, int64_t rows,
             int64_t channels) {
  using A = acc_t<T>;
  const T *in = x.as<T>(), *rest = residual.size > 0 ? residual.as<T>() : in;
  T* out = y.as<T>();
  const int64_t ahead = rows_ahead * channels;
  const Constants<A> constants(moments.as<A>(), gamma, beta, slope, channels);
  const RowChunks chunks(rows, channels);
  ChannelSums left(context, channels);
  if (statistics.size > 0) left.begin(chunks.count);
  auto run = [&]<bool prelu, bool add, bool streaming>() {
    const auto value = [=]<class V>(const auto& k, int64_t at) {
      V z = (get<V>(in + at) - k.mean) * k.scale + k.shift;
      if constexpr (prelu) z = z > V{} ? z : k.slope * z;
      if constexpr (add) z += get<V>(rest + at);
      return z;
    };
    const auto make = [=]<class V>(const auto& k, int64_t at) {
      __builtin_prefetch(in + at + ahead);
      if constexpr (add) __builtin_prefetch(rest + at + ahead);
      return put_rounded<streaming>(out + at, value.template operator()<V>(k, at));
    };
    std::vector<A> origin(left.begun() ? size_t(channels) : 0);
    for (size_t c = 0; c < origin.size(); c++) origin[c] = value.template operator()<A>(constants.template at<A>(int64_t(c)), int64_t(c));
    parallel_chunks(context, chunks.count, [&](int64_t chunk) {
      if (!left.begun())
        for_rows<T>(chunks.begin(chunk), chunks.end(chunk), channels, [&]<class V>(int64_t c) {
          return [=, k = constants.template at<V>(c)](int64_t at) { make.template operator()<V>(k, at); };
        });
      else left.sum_rows<T>(chunk, chunks.begin(chunk), chunks.end(chunk), origin.data(), [&]<class V>(int64_t c) {
        return [=, k = constants.template at<V>(c)](int64_t at) { return make.template operator()<V>(k, at); };
      });
      if constexpr (streaming) end_streaming();
    });
  };
  with_flags(run, slope.size > 0, residual.size > 0, worth_streaming(out, rows, channels));
  if (left.begun()) left.finish(statistics.as<A>(), rows);
}
}  // namespace

void channel_statistics(Context& context, Out statistics, In y, int64_t rows, int64_t channels) {
  with_float(y.dtype, [&]<class T>() {
    using A = acc_t<T>;
    const T* const in = y.as<T>();
    const RowChunks chunks(rows, channels);
    const int64_t ahead = rows_ahead * channels;
    const std::vector<A> origin(in, in + channels);
    ChannelSums sums(context, channels);
    sums.begin(chunks.count);
    parallel_chunks(context, chunks.count, [&](int64_t chunk) {
      sums.sum_rows<T>(chunk, chunks.begin(chunk), chunks.end(chunk), origin.data(), [&]<class V>(int64_t) {
        return [=](int64_t at) {
          __builtin_prefetch(in + at + ahead);
          return get<V>(in + at);
        };
      });
    });
    sums.finish(statistics.as<A>(), rows);
  });
}

// The moments in evaluation, from the running statistics.
void batch_norm_moments(Context&, Out moments, In mean, In variance, double epsilon) {
  with_float(variance.dtype, [&]<class T>() {
    T* m = moments.as<T>();
    for (int64_t c = 0; c < variance.size; c++) {
      m[c] = mean.as<T>()[c];
      m[variance.size + c] = T(1 / std::sqrt(double(variance.as<T>()[c]) + epsilon));
    }
  });
}

void batch_norm_training(Context& context, Out y, MaybeOut y_statistics, Out moments, Out running_mean, Out running_variance, In x,
                         MaybeIn x_statistics, In running_mean0, In running_variance0, MaybeIn gamma, MaybeIn beta, MaybeIn slope,
                         MaybeIn residual, int64_t rows, int64_t channels, double momentum, double epsilon) {
  with_float(x.dtype, [&]<class T>() {
    using A = acc_t<T>;
    std::vector<A> own(x_statistics.size > 0 ? 0 : size_t(2 * channels));
    if (!own.empty()) channel_statistics(context, {own.data(), 2 * channels, dtype_of<A>()}, x, rows, channels);
    update(moments, running_mean, running_variance, own.empty() ? x_statistics.as<A>() : own.data(), running_mean0, running_variance0, rows,
           channels, momentum, epsilon);
    const In found = {moments.data, moments.size, moments.dtype};
    forward<T>(context, y, y_statistics, x, found, gamma, beta, slope, residual, rows, channels);
  });
}

void batch_norm_forward(Context& context, Out y, In x, In moments, MaybeIn gamma, MaybeIn beta, MaybeIn slope, MaybeIn residual,
                        int64_t rows, int64_t channels) {
  with_float(x.dtype, [&]<class T>() { forward<T>(context, y, MaybeOut{}, x, moments, gamma, beta, slope, residual, rows, channels); });
}

void batch_norm_backward(Context& context, MaybeOut dx, Out dgamma, Out dbeta, MaybeOut dslope, In dy, In x, In moments,
                         MaybeIn gamma, MaybeIn beta, MaybeIn slope, MaybeIn more, int64_t rows, int64_t channels,
                         int64_t training) {
  with_float(x.dtype, [&]<class T>() {
    using A = acc_t<T>;
    const T *in = x.as<T>(), *gy = dy.as<T>();
    const A* inverse = moments.as<A>() + channels;
    const Constants<A> constants(moments.as<A>(), gamma, beta, slope, channels);
    const bool prelu = slope.size > 0;
    const int64_t ahead = rows_ahead * channels;
    RowChunks chunks(rows, channels);
    int64_t width = (prelu ? 3 : 2) * channels;  // sums of g, of g (x - mean), of z dy where z <= 0
    double* partial = static_cast<double*>(context.scratch(size_t(chunks.count * width) * sizeof(double)));
    auto sum = [&]<bool active>() {
      parallel_chunks(context, chunks.count, [&](int64_t before_end) {
        const int64_t chunk = chunks.count - 1 - before_end;
        sum_rows<T, active ? 3 : 2>(partial + chunk * width, chunks.begin(chunk), chunks.end(chunk), channels,
                                    [&]<class V>(int64_t c) {
          return [=, k = constants.template at<V>(c)](int64_t at, V* sums) {
            __builtin_prefetch(in + at + ahead), __builtin_prefetch(gy + at + ahead);
            V d = get<V>(in + at) - k.mean, g = get<V>(gy + at);
            if constexpr (active) {
              V z = d * k.scale + k.shift;
              sums[2] += z > V{} ? V{} : z * g;
              g = z > V{} ? g : k.slope * g;
            }
            sums[0] += g, sums[1] += g * d;
          };
        });
      });
    };
    with_flags(sum, prelu);
    add_chunks(context, partial, chunks.count, width);

    // dx = scale g + offset + (x - mean) slant + more
    std::vector<A> offset(size_t(channels), A(0)), slant(size_t(channels), A(0));
    for (int64_t c = 0; c < channels; c++) {
      double sum_g = partial[c], sum_gh = partial[channels + c] * double(inverse[c]);
      dbeta.as<A>()[c] = A(sum_g), dgamma.as<A>()[c] = A(sum_gh);
      if (prelu) dslope.as<A>()[c] = A(partial[2 * channels + c]);
      if (!training) continue;
      offset[size_t(c)] = A(-double(constants.scale[size_t(c)]) * sum_g / double(rows));
      slant[size_t(c)] = A(-double(constants.scale[size_t(c)]) * double(inverse[c]) * sum_gh / double(rows));
    }
    if (dx.size == 0) return;
    T* out = dx.as<T>();
    const T* rest = more.size > 0 ? more.as<T>() : gy;
    auto run = [&]<bool active, bool add, bool streaming>() {
      parallel_for(context, rows, chunks.grain, [&](int64_t begin, int64_t end) {
        for_rows<T>(begin, end, channels, [&]<class V>(int64_t c) {
          const V constant = get<V>(&offset[size_t(c)]), factor = get<V>(&slant[size_t(c)]);
          return [=, k = constants.template at<V>(c)](int64_t at) {
            __builtin_prefetch(in + at + ahead), __builtin_prefetch(gy + at + ahead);
            if constexpr (add) __builtin_prefetch(rest + at + ahead);
            V d = get<V>(in + at) - k.mean, g = get<V>(gy + at);
            if constexpr (active) g = d * k.scale + k.shift > V{} ? g : k.slope * g;
            V v = k.scale * g + constant + d * factor;
            if constexpr (add) v += get<V>(rest + at);
            put_rounded<streaming>(out + at, v);
          };
        });
        if constexpr (streaming) end_streaming();
      });
    };
    with_flags(run, prelu, more.size > 0, worth_streaming(out, rows, channels));
  });
}

}  // namespace turl
