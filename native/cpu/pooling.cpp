// Pooling over windows of x [batch, height, width, channels] into y [batch, out_height, out_width, channels]: window (i, j) covers
// rows i stride - padding to i stride - padding + kernel - 1, and columns likewise. Padding is never the maximum, and the average
// divides by the pixels inside the image.
#include "cpu/parallel.h"
#include "kernels.h"

namespace turl {
namespace {

struct Window {
  int64_t begin, end;
  Window(int64_t place, int64_t kernel, int64_t stride, int64_t padding, int64_t size)
      : begin(std::max<int64_t>(0, place * stride - padding)), end(std::min(size, place * stride - padding + kernel)) {}
};

// The windows that cover a pixel: first to last, inclusive.
struct Covering {
  int64_t first, last;
  Covering(int64_t pixel, int64_t kernel, int64_t stride, int64_t padding, int64_t windows)
      : first(std::max<int64_t>(0, (pixel + padding - kernel + stride) / stride)),
        last(std::min(windows - 1, (pixel + padding) / stride)) {}
};

template <class F> void for_pixels(Context& context, int64_t pixels, int64_t channels, F&& f) {
  parallel_for(context, pixels, std::max<int64_t>(1, 16384 / std::max<int64_t>(channels, 1)), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) f(i);
  });
}

}  // namespace

// index is the pixel (row times width plus column) of the first maximum; a NaN counts as larger than any number.
void max_pool_forward(Context& context, Out y, Out index, In x, int64_t batch, int64_t height, int64_t width, int64_t channels,
                      int64_t out_height, int64_t out_width, int64_t kernel, int64_t stride, int64_t padding) {
  with_float(x.dtype, [&]<class T>() {
    using A = acc_t<T>;
    const T* in = x.as<T>();
    for_pixels(context, batch * out_height * out_width, channels, [&](int64_t p) {
      Window u(p / out_width % out_height, kernel, stride, padding, height), v(p % out_width, kernel, stride, padding, width);
      const T* image = in + p / (out_height * out_width) * height * width * channels;
      for (int64_t c = 0; c < channels; c++) {
        int64_t place = u.begin * width + v.begin;
        A best = A(image[place * channels + c]);
        for (int64_t i = u.begin; i < u.end; i++)
          for (int64_t j = v.begin; j < v.end; j++) {
            A value = A(image[(i * width + j) * channels + c]);
            if (value > best || (value != value && best == best)) best = value, place = i * width + j;
          }
        y.as<T>()[p * channels + c] = T(best);
        index.as<int32_t>()[p * channels + c] = int32_t(place);
      }
    });
  });
}

// dx of a pixel is the sum of dy over the windows whose maximum it is.
void max_pool_backward(Context& context, Out dx, In dy, In index, int64_t batch, int64_t height, int64_t width, int64_t channels,
                       int64_t out_height, int64_t out_width, int64_t kernel, int64_t stride, int64_t padding) {
  with_float(dx.dtype, [&]<class T>() {
    using A = acc_t<T>;
    for_pixels(context, batch * height * width, channels, [&](int64_t p) {
      int64_t pixel = p % (height * width), first = p / (height * width) * out_height * out_width;
      Covering u(pixel / width, kernel, stride, padding, out_height), v(pixel % width, kernel, stride, padding, out_width);
      for (int64_t c = 0; c < channels; c++) {
        A total = 0;
        for (int64_t i = u.first; i <= u.last; i++)
          for (int64_t j = v.first; j <= v.last; j++) {
            int64_t from = (first + i * out_width + j) * channels + c;
            if (index.as<int32_t>()[from] == pixel) total += A(dy.as<T>()[from]);
          }
        dx.as<T>()[p * channels + c] = T(total);
      }
    });
  });
}

void average_pool_forward(Context& context, Out y, In x, int64_t batch, int64_t height, int64_t width, int64_t channels,
                          int64_t out_height, int64_t out_width, int64_t kernel, int64_t stride, int64_t padding) {
  with_float(x.dtype, [&]<class T>() {
    using A = acc_t<T>;
    const T* in = x.as<T>();
    for_pixels(context, batch * out_height * out_width, channels, [&](int64_t p) {
      Window u(p / out_width % out_height, kernel, stride, padding, height), v(p % out_width, kernel, stride, padding, width);
      const T* image = in + p / (out_height * out_width) * height * width * channels;
      A share = A(1) / A((u.end - u.begin) * (v.end - v.begin));
      for (int64_t c = 0; c < channels; c++) {
        A total = 0;
        for (int64_t i = u.begin; i < u.end; i++)
          for (int64_t j = v.begin; j < v.end; j++) total += A(image[(i * width + j) * channels + c]);
        y.as<T>()[p * channels + c] = T(total * share);
      }
    });
  });
}

void average_pool_backward(Context& context, Out dx, In dy, int64_t batch, int64_t height, int64_t width, int64_t channels,
                           int64_t out_height, int64_t out_width, int64_t kernel, int64_t stride, int64_t padding) {
  with_float(dx.dtype, [&]<class T>() {
    using A = acc_t<T>;
    for_pixels(context, batch * height * width, channels, [&](int64_t p) {
      int64_t pixel = p % (height * width), first = p / (height * width) * out_height * out_width;
      Covering u(pixel / width, kernel, stride, padding, out_height), v(pixel % width, kernel, stride, padding, out_width);
      for (int64_t c = 0; c < channels; c++) {
        A total = 0;
        for (int64_t i = u.first; i <= u.last; i++)
          for (int64_t j = v.first; j <= v.last; j++) {
            Window a(i, kernel, stride, padding, height), b(j, kernel, stride, padding, width);
            total += A(dy.as<T>()[(first + i * out_width + j) * channels + c]) / A((a.end - a.begin) * (b.end - b.begin));
          }
        dx.as<T>()[p * channels + c] = T(total);
      }
    });
  });
}

}  // namespace turl
