// Pooling of one element, written once for every device. Window i of one axis covers the pixels i stride - padding to
// i stride - padding + window - 1 that lie inside the image: padding is never the maximum, and the average divides by the pixels
// inside. Arguments: the pixel's place p in [batch, height, width] (or [batch, out_height, out_width]) and the channel c.
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

  // `place` is the pixel (row times width plus column) of the first maximum; a NaN counts as larger than any number.
  template <class T> TURL_BOTH acc_t<T> maximum(const T* x, int64_t p, int64_t c, int32_t& place) const {
    using A = acc_t<T>;
    Range u = pixels(p / out_width % out_height, height), v = pixels(p % out_width, width);
    const T* image = x + p / (out_height * out_width) * height * width * channels + c;
    int64_t at = u.begin * width + v.begin;
    A best = A(image[at * channels]);
    for (int64_t i = u.begin; i < u.end; i++)
      for (int64_t j = v.begin; j < v.end; j++) {
        A value = A(image[(i * width + j) * channels]);
        if (value > best || (value != value && best == best)) best = value, at = i * width + j;
      }
    place = int32_t(at);
    return best;
  }

  // The sum of dy over the windows whose maximum the pixel is.
  template <class T> TURL_BOTH acc_t<T> maximum_gradient(const T* dy, const int32_t* places, int64_t p, int64_t c) const {
    int64_t pixel = p % (height * width), first = p / (height * width) * out_height * out_width;
    Range u = windows(pixel / width, out_height), v = windows(pixel % width, out_width);
    acc_t<T> total = 0;
    for (int64_t i = u.begin; i < u.end; i++)
      for (int64_t j = v.begin; j < v.end; j++) {
        int64_t from = (first + i * out_width + j) * channels + c;
        if (places[from] == pixel) total += acc_t<T>(dy[from]);
      }
    return total;
  }

  template <class T> TURL_BOTH acc_t<T> average(const T* x, int64_t p, int64_t c) const {
    Range u = pixels(p / out_width % out_height, height), v = pixels(p % out_width, width);
    const T* image = x + p / (out_height * out_width) * height * width * channels + c;
    acc_t<T> total = 0;
    for (int64_t i = u.begin; i < u.end; i++)
      for (int64_t j = v.begin; j < v.end; j++) total += acc_t<T>(image[(i * width + j) * channels]);
    return total / acc_t<T>(u.count() * v.count());
  }

  // The sum over the windows that cover the pixel of their dy divided by their size.
  template <class T> TURL_BOTH acc_t<T> average_gradient(const T* dy, int64_t p, int64_t c) const {
    int64_t pixel = p % (height * width), first = p / (height * width) * out_height * out_width;
    Range u = windows(pixel / width, out_height), v = windows(pixel % width, out_width);
    acc_t<T> total = 0;
    for (int64_t i = u.begin; i < u.end; i++)
      for (int64_t j = v.begin; j < v.end; j++)
        total += acc_t<T>(dy[(first + i * out_width + j) * channels + c]) /
                 acc_t<T>(pixels(i, height).count() * pixels(j, width).count());
    return total;
  }
};

}  // namespace turl
