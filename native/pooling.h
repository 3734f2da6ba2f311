// Pooling, written once for every device. Window i of one axis covers the pixels i stride - padding to i stride - padding + window - 1
// that lie inside the image: padding is never the maximum, and the average divides by the number of pixels inside. Each function computes
// the results of N channels from c on at one pixel, number p of [batch, height, width] (or of [batch, out_height, out_width]).
#pragma once
#include "types.h"

namespace turl {

struct Pooling {
  int64_t batch, height, width, channels, out_height, out_width, window, stride, padding;

  struct Range {
    int64_t begin, end;
    TURL_BOTH int64_t count() const { return end - begin; }
  };
  // The pixels of window i along an axis of `size` pixels.
  TURL_BOTH Range pixels(int64_t i, int64_t size) const {
    int64_t begin = i * stride - padding, end = begin + window;
    return {begin > 0 ? begin : 0, end < size ? end : size};
  }
  // The windows that cover a pixel.
  TURL_BOTH Range windows(int64_t pixel, int64_t count) const {
    int64_t begin = (pixel + padding - window + stride) / stride, end = (pixel + padding) / stride + 1;
    return {begin > 0 ? begin : 0, end < count ? end : count};
  }

  // places[k] is the pixel (row times width plus column) of the first maximum; a NaN counts as larger than any number.
  template <int N, class T> TURL_BOTH void maximum(T* y, int32_t* places, const T* x, int64_t p, int64_t c) const {
    using A = acc_t<T>;
    const Range u = pixels(p / out_width % out_height, height), v = pixels(p % out_width, width);
    const T* image = x + p / (out_height * out_width) * height * width * channels + c;
    A best[N];
    int32_t place[N];
    const int64_t first = u.begin * width + v.begin;
    for (int k = 0; k < N; k++) best[k] = A(image[first * channels + k]), place[k] = int32_t(first);
    for (int64_t i = u.begin; i < u.end; i++)
      for (int64_t j = v.begin; j < v.end; j++) {
        const int32_t at = int32_t(i * width + j);
        for (int k = 0; k < N; k++) {
          const A value = A(image[at * channels + k]);
          const bool more = !(value <= best[k]) && best[k] == best[k];
          best[k] = more ? value : best[k], place[k] = more ? at : place[k];
        }
      }
    for (int k = 0; k < N; k++) y[p * channels + c + k] = T(best[k]), places[p * channels + c + k] = place[k];
  }

  // The sum of dy over the windows whose maximum the pixel is.
  template <int N, class T>
  TURL_BOTH void maximum_gradient(T* dx, const T* dy, const int32_t* places, int64_t p, int64_t c) const {
    sum_windows<N>(dx, p, c, [&](int64_t from, int32_t pixel, int64_t, int k) {
      return places[from + k] == pixel ? acc_t<T>(dy[from + k]) : acc_t<T>(0);
    });
  }

  template <int N, class T> TURL_BOTH void average(T* y, const T* x, int64_t p, int64_t c) const {
    using A = acc_t<T>;
    const Range u = pixels(p / out_width % out_height, height), v = pixels(p % out_width, width);
    const T* image = x + p / (out_height * out_width) * height * width * channels + c;
    A total[N] = {};
    for (int64_t i = u.begin; i < u.end; i++)
      for (int64_t j = v.begin; j < v.end; j++)
        for (int k = 0; k < N; k++) total[k] += A(image[(i * width + j) * channels + k]);
    for (int k = 0; k < N; k++) y[p * channels + c + k] = T(total[k] / A(u.count() * v.count()));
  }

  // The sum over the windows that cover the pixel of their dy divided by their size.
  template <int N, class T> TURL_BOTH void average_gradient(T* dx, const T* dy, int64_t p, int64_t c) const {
    sum_windows<N>(dx, p, c, [&](int64_t from, int32_t, int64_t size, int k) { return acc_t<T>(dy[from + k]) / acc_t<T>(size); });
  }

 private:
  // dx of a pixel = the sum of f(place in y of channel c, pixel, pixels of the window, k) over the windows that cover it.
  template <int N, class T, class F> TURL_BOTH void sum_windows(T* dx, int64_t p, int64_t c, F&& f) const {
    const int64_t pixel = p % (height * width), first = p / (height * width) * out_height * out_width;
    const Range u = windows(pixel / width, out_height), v = windows(pixel % width, out_width);
    acc_t<T> total[N] = {};
    for (int64_t i = u.begin; i < u.end; i++)
      for (int64_t j = v.begin; j < v.end; j++) {
        const int64_t from = (first + i * out_width + j) * channels + c, size = pixels(i, height).count() * pixels(j, width).count();
        for (int k = 0; k < N; k++) total[k] += f(from, int32_t(pixel), size, k);
      }
    for (int k = 0; k < N; k++) dx[p * channels + c + k] = T(total[k]);
  }
};

}  // namespace turl
