// Depthwise convolution, one filter for each channel, vectorised over the channels: the weight [C, kh, kw, 1] is first transposed to
// [kh kw, C]. Windows of 3x3 with stride 1 and 2 slide along the rows (depthwise_3x3.h). Other windows, and fewer channels than a cache line
// has, gather (float32 only): for each result pixel, of the forward pass or of the image's gradient, a list of the input pixels and taps
// that it needs is made once for all channels.
#include "cpu/conv_fast.h"
#include "cpu/depthwise_3x3.h"
#include "cpu/parallel.h"

namespace turl {
namespace {

// The weight as [taps, C]; if `rotated`, with the window rotated by 180 degrees.
const float* by_tap(Context& context, const float* weight, const Convolution& s, bool rotated = false) {
  float* out = static_cast<float*>(context.scratch(size_t(s.taps() * s.channels) * 4));
  for (int64_t t = 0; t < s.taps(); t++) {
    const float* from = weight + (rotated ? s.taps() - 1 - t : t);
    for (int64_t c = 0; c < s.channels; c++) out[t * s.channels + c] = from[c * s.taps()];
  }
  return out;
}

// Rows of results that take about so many `products`.
int64_t rows_per_chunk(int64_t row_elements, int64_t taps, int64_t products) {
  return std::max<int64_t>(1, products / std::max<int64_t>(1, row_elements * taps));
}

// Products of a chunk, for the kernels that gather and for those whose windows slide.
constexpr int64_t gather_products = 1 << 18, slide_products = 1 << 19;

// f.operator()<block>() with the number of channels of a block.
template <class T, class F> void with_block(int64_t channels, F&& f) {
  if (channels >= line_channels<T>) f.template operator()<line_channels<T>>();
  else f.template operator()<least_channels>();
}
// Whether to use streaming stores: only for blocks that are whole cache lines.
template <int block, class T> bool streams(const T* p, int64_t rows, int64_t channels) {
  return block * sizeof(T) == 64 && worth_streaming(p, rows, channels);
}

// y = convolution of x with the window w. Rows of y are computed in pairs where there are two left.
template <int stride, int block, class T>
void slide_images(Context& context, const Images<T>& y, ChannelSums* sums, const Images<const T>& x, const float* w, int64_t batch,
                  int64_t padding) {
  const int64_t channels = x.channels, whole = channels / block * block, columns = round_up(channels, block);
  const int64_t grain = rows_per_chunk(y.width * channels, 9, slide_products);
  const auto make = sums ? std::array{slide<stride, 1, block, true, T>, slide<stride, 2, block, true, T>}
                         : std::array{slide<stride, 1, block, false, T>, slide<stride, 2, block, false, T>};
  if (sums) sums->begin(ceil_div(batch * y.height, grain));
  const bool streaming = streams<block>(y.p, batch * y.height * y.width, channels);
  parallel_for(context, batch * y.height, grain, [&](int64_t begin, int64_t end) {
    const RowSums chunk_sums = sums ? ChannelSums::rows(columns) : RowSums{};
    for (int64_t row = begin, rows; row < end; row += rows) {
      const int64_t image = row / y.height, i = row % y.height, top = i * stride - padding;
      rows = std::min<int64_t>({2, end - row, y.height - i});
      const int64_t below = i + rows < y.height ? std::max<int64_t>(0, top + rows_read<stride>(int(rows))) : x.height;
      for (int64_t c = 0; c < channels; c += block) {
        const int64_t at = std::min(c, channels - block);
        Row<const T> from[rows_read<stride>(2)];
        for (int l = 0; l < rows_read<stride>(2); l++) from[l] = x.row(image, top + l, at);
        make[size_t(rows - 1)](y.at(image, i) + at, from, w + at, channels, x.width, y.width, padding, streaming,
                               {x.at(image, below) + c * rows * stride * x.width}, chunk_sums, c, row == begin);
      }
    }
    // The last block, if it overlaps the one before, has columns of its own.
    if (sums) {
      const int64_t pixels = (end - begin) * y.width;
      sums->leave(begin / grain, 0, whole, chunk_sums, 0, pixels);
      sums->leave(begin / grain, whole, channels - whole, chunk_sums, columns - (channels - whole), pixels);
    }
    if (streaming) end_streaming();
  });
}

// The image's gradient with stride 2, in pairs of rows: pair t is row 2 t - padding of dx and the one below.
template <int block, class T>
void spread_images(Context& context, const Images<T>& dx, const Images<const T>& dy, const float* w, int64_t batch,
                   int64_t padding) {
  const int64_t channels = dx.channels, first = padding / 2, pairs = (dx.height + 1 + padding) / 2 - first;
  const bool streaming = streams<block>(dx.p, batch * dx.height * dx.width, channels);
  parallel_for(context, batch * pairs, rows_per_chunk(dy.width * channels, 9, slide_products), [&](int64_t begin, int64_t end) {
    for (int64_t pair = begin; pair < end; pair++) {
      const int64_t image = pair / pairs, t = first + pair % pairs, top = 2 * t - padding, below = std::min(t + 1, dy.height);
      for (int64_t c = 0; c < channels; c += block) {
        const int64_t at = std::min(c, channels - block);
        const Row<T> to[2] = {dx.row(image, top, at), dx.row(image, top + 1, at)};
        const Row<const T> from[2] = {dy.row(image, t - 1, at), dy.row(image, t, at)};
        spread<block, T>(to, from, w + at, channels, dx.width, dy.width, padding, streaming, {dy.at(image, below) + c * dy.width});
      }
    }
    if (streaming) end_streaming();
  });
}

// total [9, total_step] += the products of rows [begin, end) of dy, a vector of channels at a time. If the last vector overlaps the one
// before, its sums have a place of their own at the end.
template <int stride, class T>
void slide_weights(float* total, int64_t total_step, const Images<const T>& dy, const Images<const T>& x, int64_t begin,
                   int64_t end, int64_t padding) {
  const int64_t channels = x.channels;
  for (int64_t row = begin, rows; row < end; row += rows) {
    const int64_t image = row / dy.height, i = row % dy.height, top = i * stride - padding;
    rows = std::min<int64_t>({2, end - row, dy.height - i});
    const int64_t below = i + rows < dy.height ? std::max<int64_t>(0, top + rows_read<stride>(int(rows))) : x.height;
    for (int64_t c = 0; c < channels; c += lanes) {
      const int64_t at = std::min(c, channels - lanes);
      Row<const T> from[rows_read<stride>(2)];
      for (int l = 0; l < rows_read<stride>(2); l++) from[l] = x.row(image, top + l, at);
      (rows == 2 ? slide_weight<stride, 2, T> : slide_weight<stride, 1, T>)(
          total + c, total_step, dy.at(image, i) + at, from, channels, x.width, dy.width, padding,
          {x.at(image, below) + c * rows * stride * x.width}, {dy.at(image, i + rows) + c * rows * dy.width});
    }
  }
}

struct Pair {
  const float *in, *weight;
};

// y[c] = sum over `count` pairs of in[c] weight[c]
void weighted_sum(float* y, const Pair* pairs, int count, int64_t channels) {
  int64_t c = 0;
  for (; c + 2 * lanes <= channels; c += 2 * lanes) {
    vfloat a{}, b{};
    for (int i = 0; i < count; i++) {
      a = fma(load(pairs[i].in + c), load(pairs[i].weight + c), a);
      b = fma(load(pairs[i].in + c + lanes), load(pairs[i].weight + c + lanes), b);
    }
    store(y + c, a);
    store(y + c + lanes, b);
  }
  // The remaining channels: whole vectors, of which the last overlaps the one before. Only fewer channels than lanes need a partial vector.
  for (; c < channels; c += lanes) {
    vfloat a{};
    if (channels < lanes) {
      const int n = int(channels);
      for (int i = 0; i < count; i++) a = fma(load(pairs[i].in, n), load(pairs[i].weight, n), a);
      store(y, a, n);
      continue;
    }
    const int64_t at = std::min<int64_t>(c, channels - lanes);
    for (int i = 0; i < count; i++) a = fma(load(pairs[i].in + at), load(pairs[i].weight + at), a);
    store(y + at, a);
  }
}

// Along one axis, the taps that meet result i: from `first` on every `step`, up to `end`; tap u meets pixel `pixel` + u `move`.
struct Taps {
  int64_t first, end, step, pixel, move, divisor;
  int64_t at(int64_t u) const { return (pixel + u * move) / divisor; }
};
// For pixel i of y, along an axis of `size` pixels of x; and for pixel i of dx, along an axis of `size` pixels of dy.
Taps taps_forward(int64_t i, int64_t size, int64_t kernel, const Convolution& s) {
  const int64_t start = i * s.stride - s.padding;
  return {std::max<int64_t>(0, -start), std::min(kernel, size - start), 1, start, 1, 1};
}
Taps taps_backward(int64_t i, int64_t size, int64_t kernel, const Convolution& s) {
  const int64_t start = i + s.padding, low = start - (size - 1) * s.stride;  // the tap that meets the last pixel of dy
  return {low > 0 ? low : start % s.stride, std::min(kernel, start + 1), s.stride, start, -1, s.stride};
}

template <class F>
void gather(Context& context, const Images<float>& y, const Images<const float>& x, const float* w, const Convolution& s,
            F&& taps) {
  const int64_t channels = s.channels, grain = rows_per_chunk(y.width * channels, s.taps(), gather_products);
  parallel_for(context, s.batch * y.height, grain, [&](int64_t begin, int64_t end) {
    std::unique_ptr<Pair[]> pairs(new Pair[size_t(s.taps())]);
    for (int64_t row = begin; row < end; row++) {
      const int64_t image = row / y.height, i = row % y.height;
      const Taps vertical = taps(i, x.height, s.kernel_h, s);
      for (int64_t j = 0; j < y.width; j++) {
        const Taps horizontal = taps(j, x.width, s.kernel_w, s);
        int count = 0;
        for (int64_t u = vertical.first; u < vertical.end; u += vertical.step)
          for (int64_t v = horizontal.first; v < horizontal.end; v += horizontal.step)
            pairs[count++] = {x.at(image, vertical.at(u)) + horizontal.at(v) * channels, w + (u * s.kernel_w + v) * channels};
        weighted_sum(y.at(image, i) + j * channels, pairs.get(), count, channels);
      }
    }
  });
}

// total [taps, C] += the products of rows [begin, end) of dy.
void gather_weights(float* total, const Images<const float>& dy, const Images<const float>& x, int64_t begin, int64_t end,
                    const Convolution& s) {
  const int64_t channels = s.channels;
  for (int64_t row = begin; row < end; row++) {
    const int64_t image = row / dy.height, i = row % dy.height;
    for (int64_t u = 0; u < s.kernel_h; u++) {
      const int64_t iy = i * s.stride + u - s.padding;
      if (iy < 0 || iy >= x.height) continue;
      for (int64_t v = 0; v < s.kernel_w; v++) {
        // The columns j whose input column j stride + v - padding lies in the image.
        const int64_t first = std::max<int64_t>(0, ceil_div(std::max<int64_t>(0, s.padding - v), s.stride));
        const int64_t inside = x.width - 1 + s.padding - v;
        const int64_t last = inside < 0 ? 0 : std::min(dy.width, inside / s.stride + 1);
        const float* g = dy.at(image, i) + first * channels;
        const float* in = x.at(image, iy) + (first * s.stride + v - s.padding) * channels;
        float* out = total + (u * s.kernel_w + v) * channels;
        for (int64_t j = first; j < last; j++, g += channels, in += s.stride * channels)
          for (int64_t c = 0; c < channels; c++) out[c] += g[c] * in[c];
      }
    }
  }
}

// The three directions for windows that slide. T is float or bfloat16; the filter is float32.
template <class T>
void slide_forward(Context& context, T* y, ChannelSums* sums, const T* x, const float* weight, const Convolution& s) {
  const Images<const T> from{x, s.height, s.width, s.channels};
  const Images<T> to{y, s.out_height(), s.out_width(), s.channels};
  const float* w = by_tap(context, weight, s);
  with_block<T>(s.channels, [&]<int block>() {
    (s.stride == 1 ? slide_images<1, block, T> : slide_images<2, block, T>)(context, to, sums, from, w, s.batch, s.padding);
  });
}

template <class T>
void slide_backward_data(Context& context, T* dx, const T* dy, const float* weight, const Convolution& s) {
  const Images<const T> from{dy, s.out_height(), s.out_width(), s.channels};
  const Images<T> to{dx, s.height, s.width, s.channels};
  // With stride 1 it is a convolution itself, with the window rotated by 180 degrees.
  const float* w = by_tap(context, weight, s, s.stride == 1);
  with_block<T>(s.channels, [&]<int block>() {
    if (s.stride == 1) slide_images<1, block, T>(context, to, nullptr, from, w, s.batch, 2 - s.padding);
    else spread_images<block>(context, to, from, w, s.batch, s.padding);
  });
}

// Each chunk of rows has a total [taps, step] of its own, to which add(total, dy, x, begin, end) adds its products. The number of chunks
// depends on sizes only, and their totals are added in order.
template <class T, class Add>
void sum_weights(Context& context, float* dweight, const T* dy, const T* x, int64_t step, int64_t products, const Convolution& s,
                 Add&& add) {
  const Images<const T> gradient{dy, s.out_height(), s.out_width(), s.channels}, image{x, s.height, s.width, s.channels};
  const int64_t channels = s.channels, size = s.taps() * step, rows = s.batch * gradient.height;
  const int64_t grain = std::max(rows_per_chunk(gradient.width * channels, s.taps(), products), ceil_div(rows, 64));
  const int64_t chunks = std::max<int64_t>(1, ceil_div(rows, grain));
  float* partial = static_cast<float*>(context.scratch(size_t(chunks * size) * 4));
  parallel_chunks(context, chunks, [&](int64_t chunk) {
    float* total = partial + chunk * size;
    std::fill(total, total + size, 0.0f);
    add(total, gradient, image, chunk * grain, std::min(rows, (chunk + 1) * grain));
  });
  add_chunks(context, partial, chunks, size);
  for (int64_t t = 0; t < s.taps(); t++)
    for (int64_t c = 0; c < channels; c++) {
      const bool whole = c < channels / lanes * lanes;  // else c is in the last vector, whose end is the last channel
      dweight[c * s.taps() + t] = partial[t * step + (whole ? c : c + step - channels)];
    }
}

template <class T>
void slide_backward_weight(Context& context, float* dweight, const T* dy, const T* x, const Convolution& s) {
  const int64_t step = round_up(s.channels, lanes);
  sum_weights(context, dweight, dy, x, step, slide_products, s,
              [&](float* total, const auto& gradient, const auto& image, int64_t begin, int64_t end) {
                const auto add = s.stride == 1 ? slide_weights<1, T> : slide_weights<2, T>;
                add(total, step, gradient, image, begin, end, s.padding);
              });
}

}  // namespace

bool depthwise_slides(const Convolution& s) {
  return s.depthwise() && s.kernel_h == 3 && s.kernel_w == 3 && s.stride <= 2 && s.padding <= 2 && s.channels >= least_channels;
}

void depthwise_forward(Context& context, float* y, ChannelSums* sums, const float* x, const float* weight, const Convolution& s) {
  if (depthwise_slides(s)) return slide_forward(context, y, sums, x, weight, s);
  const Images<const float> from{x, s.height, s.width, s.channels};
  const Images<float> to{y, s.out_height(), s.out_width(), s.channels};
  gather(context, to, from, by_tap(context, weight, s), s, taps_forward);
}

void depthwise_backward_data(Context& context, float* dx, const float* dy, const float* weight, const Convolution& s) {
  if (depthwise_slides(s)) return slide_backward_data(context, dx, dy, weight, s);
  const Images<const float> from{dy, s.out_height(), s.out_width(), s.channels};
  const Images<float> to{dx, s.height, s.width, s.channels};
  gather(context, to, from, by_tap(context, weight, s), s, taps_backward);
}

void depthwise_backward_weight(Context& context, float* dweight, const float* dy, const float* x, const Convolution& s) {
  if (depthwise_slides(s)) return slide_backward_weight(context, dweight, dy, x, s);
  sum_weights(context, dweight, dy, x, s.channels, gather_products, s,
              [&](float* total, const auto& gradient, const auto& image, int64_t begin, int64_t end) {
                gather_weights(total, gradient, image, begin, end, s);
              });
}

void depthwise_forward(Context& context, bfloat16* y, ChannelSums* sums, const bfloat16* x, const float* weight, const Convolution& s) {
  slide_forward(context, y, sums, x, weight, s);
}

void depthwise_backward_data(Context& context, bfloat16* dx, const bfloat16* dy, const float* weight, const Convolution& s) {
  slide_backward_data(context, dx, dy, weight, s);
}

void depthwise_backward_weight(Context& context, float* dweight, const bfloat16* dy, const bfloat16* x, const Convolution& s) {
  slide_backward_weight(context, dweight, dy, x, s);
}

}  // namespace turl
