// Depthwise convolution in float32, one filter for each channel, vectorised over the channels: weight [C, kh, kw, 1] is first
// turned into [kh kw, C]. Forward and the image's gradient gather: for each result pixel the list of input pixels and taps that
// meet is made once and serves all channels.
#include "cpu/conv_fast.h"
#include "cpu/gemm_tile.h"
#include "cpu/parallel.h"

namespace turl {
namespace {

const float* by_tap(Context& context, const float* weight, const Convolution& s) {
  float* out = static_cast<float*>(context.scratch(size_t(s.taps() * s.channels) * 4));
  for (int64_t c = 0; c < s.channels; c++)
    for (int64_t t = 0; t < s.taps(); t++) out[t * s.channels + c] = weight[c * s.taps() + t];
  return out;
}

int64_t rows_per_chunk(int64_t row_elements, int64_t taps) {
  return std::max<int64_t>(1, 262144 / std::max<int64_t>(1, row_elements * taps));
}

struct Pair {
  const float *in, *weight;
};

// y[c] = sum over pairs of in[c] weight[c]
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
  // What is left: whole vectors, the last of them overlapping the one before; only fewer channels than lanes need a part of one.
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

}  // namespace

void depthwise_forward(Context& context, float* y, const float* x, const float* weight, const Convolution& s) {
  const int64_t ho = s.out_height(), wo = s.out_width(), channels = s.channels;
  const float* w = by_tap(context, weight, s);
  parallel_for(context, s.batch * ho, rows_per_chunk(wo * channels, s.taps()), [&](int64_t begin, int64_t end) {
    std::unique_ptr<Pair[]> pairs(new Pair[size_t(s.taps())]);
    for (int64_t row = begin; row < end; row++)
      for (int64_t j = 0; j < wo; j++) {
        int count = 0;
        for (int64_t u = 0; u < s.kernel_h; u++)
          for (int64_t v = 0; v < s.kernel_w; v++) {
            const int64_t iy = row % ho * s.stride + u - s.padding, ix = j * s.stride + v - s.padding;
            if (iy < 0 || iy >= s.height || ix < 0 || ix >= s.width) continue;
            pairs[count++] = {x + ((row / ho * s.height + iy) * s.width + ix) * channels, w + (u * s.kernel_w + v) * channels};
          }
        weighted_sum(y + (row * wo + j) * channels, pairs.get(), count, channels);
      }
  });
}

void depthwise_backward_data(Context& context, float* dx, const float* dy, const float* weight, const Convolution& s) {
  const int64_t ho = s.out_height(), wo = s.out_width(), channels = s.channels;
  const float* w = by_tap(context, weight, s);
  parallel_for(context, s.batch * s.height, rows_per_chunk(s.width * channels, s.taps()), [&](int64_t begin, int64_t end) {
    std::unique_ptr<Pair[]> pairs(new Pair[size_t(s.taps())]);
    for (int64_t row = begin; row < end; row++)
      for (int64_t ix = 0; ix < s.width; ix++) {
        int count = 0;
        for (int64_t u = 0; u < s.kernel_h; u++)
          for (int64_t v = 0; v < s.kernel_w; v++) {
            const int64_t ty = row % s.height + s.padding - u, tx = ix + s.padding - v;
            if (ty < 0 || tx < 0 || ty % s.stride || tx % s.stride || ty / s.stride >= ho || tx / s.stride >= wo) continue;
            pairs[count++] = {dy + ((row / s.height * ho + ty / s.stride) * wo + tx / s.stride) * channels,
                              w + (u * s.kernel_w + v) * channels};
          }
        weighted_sum(dx + (row * s.width + ix) * channels, pairs.get(), count, channels);
      }
  });
}

// Each chunk of rows sums by itself into [taps, channels]; the chunks, whose number depends on sizes only, are added in order.
void depthwise_backward_weight(Context& context, float* dweight, const float* dy, const float* x, const Convolution& s) {
  const int64_t ho = s.out_height(), wo = s.out_width(), channels = s.channels, size = s.taps() * channels;
  const int64_t rows = s.batch * ho, grain = std::max(rows_per_chunk(wo * channels, s.taps()), divide_up(rows, 64));
  const int64_t chunks = divide_up(rows, grain);
  float* partial = static_cast<float*>(context.scratch(size_t(std::max<int64_t>(1, chunks) * size) * 4));
  parallel_chunks(context, chunks, [&](int64_t chunk) {
    float* total = partial + chunk * size;
    std::fill(total, total + size, 0.0f);
    for (int64_t row = chunk * grain; row < std::min(rows, (chunk + 1) * grain); row++)
      for (int64_t u = 0; u < s.kernel_h; u++) {
        const int64_t iy = row % ho * s.stride + u - s.padding;
        if (iy < 0 || iy >= s.height) continue;
        for (int64_t v = 0; v < s.kernel_w; v++) {
          // The columns j whose input column j stride + v - padding lies in the image.
          const int64_t first = std::max<int64_t>(0, divide_up(std::max<int64_t>(0, s.padding - v), s.stride));
          const int64_t inside = s.width - 1 + s.padding - v;
          const int64_t last = inside < 0 ? 0 : std::min(wo, inside / s.stride + 1);
          const float* g = dy + (row * wo + first) * channels;
          const float* in = x + ((row / ho * s.height + iy) * s.width + first * s.stride + v - s.padding) * channels;
          float* out = total + (u * s.kernel_w + v) * channels;
          for (int64_t j = first; j < last; j++, g += channels, in += s.stride * channels)
            for (int64_t c = 0; c < channels; c++) out[c] += g[c] * in[c];
        }
      }
  });
  for (int64_t c = 0; c < channels; c++)
    for (int64_t t = 0; t < s.taps(); t++) {
      float sum = 0;
      for (int64_t chunk = 0; chunk < chunks; chunk++) sum += partial[chunk * size + t * channels + c];
      dweight[c * s.taps() + t] = sum;
    }
}

}  // namespace turl
