// Convolutions by windows (conv_windows.h), their image's gradients and their weight's (conv_weight_windows.h) against plain loops; all
// sums are exact, so results are equal.
#include <cmath>
#include <utility>
#include "cuda/conv_weight_windows.h"
#include "cuda/conv_windows.h"
#include "tests/test.h"

namespace turl::test {
namespace {

// Runs the kernel without sums of channels, and, for the convolution itself, once more with them; these are compared with sums over y.
template <class Units, bool mirrored>
void compute(Context& context, Array<bfloat16>& y, const bfloat16* x, const bfloat16* weight, const std::vector<float>& expected,
             const Convolution& s) {
  TURL_EXPECT(in_windows(s, mirrored));
  const TensorMap map = mirrored ? tensor_map(weight, {s.channels, s.taps(), s.out_channels}, 2)
                                 : tensor_map(weight, {s.taps() * s.channels, s.out_channels, 1}, 1);
  for (const bool summed : {false, true}) {
    if (mirrored && summed) continue;
    const WindowConvolution<Units> sizes(context, s, mirrored, summed);
    if (Units::turned && sizes.stages == 0) return;  // its windows are larger
    TURL_EXPECT(sizes.stages > 0);
    const size_t chunks = size_t(sizes.chunks()), channels = size_t(s.out_channels);
    Array<float> sums(summed ? chunks * 2 * channels : 1, 99.0f);
    for (size_t i = 0; i < y.size; i++) y[i] = bfloat16(99.0f);
    launch(context, conv_windows_matrix_kernel<Units, mirrored>, unsigned(sizes.blocks()), Units::threads, size_t(sizes.shared_bytes()),
           y.data, summed ? sums.data : nullptr, x, map, sizes);
    synchronize();
    for (size_t i = 0; i < y.size; i++) TURL_EXPECT(float(y[i]) == float(bfloat16(expected[i])));
    if (!summed) continue;
    for (size_t c = 0; c < channels; c++) {
      double found[2] = {}, wanted[2] = {};
      for (size_t chunk = 0; chunk < chunks; chunk++)
        for (size_t k = 0; k < 2; k++) found[k] += double(sums[(chunk * 2 + k) * channels + c]);
      for (size_t i = c; i < y.size; i += channels) wanted[0] += double(float(y[i])), wanted[1] += double(float(y[i])) * double(float(y[i]));
      for (size_t k = 0; k < 2; k++) TURL_EXPECT(std::abs(found[k] - wanted[k]) <= 1e-6 * wanted[1]);
    }
  }
}

// Tests both directions, with tiles of `width` channels, on a GPU of so many multiprocessors.
template <int width> void check(Context& context, const Convolution& s, int multiprocessors) {
  const int before = std::exchange(context.multiprocessors, multiprocessors);
  const size_t in_pixels = size_t(s.batch * s.height * s.width), out_pixels = size_t(s.batch * s.out_height() * s.out_width());
  const size_t c = size_t(s.channels), o = size_t(s.out_channels);
  Array<bfloat16> x(in_pixels * c), weight(size_t(s.weight_size())), y(out_pixels * o), dy(out_pixels * o), dx(in_pixels * c);
  for (Array<bfloat16>* a : {&x, &weight, &dy})
    for (size_t i = 0; i < a->size; i++) (*a)[i] = small(i + a->size);
  std::vector<float> expected(y.size), gradient(dx.size), w(weight.data, weight.data + weight.size), xs(x.data, x.data + x.size),
      dys(dy.data, dy.data + dy.size);
  for (size_t p = 0; p < out_pixels; p++)
    for (size_t tap = 0; tap < size_t(s.taps()); tap++) {
      const int64_t j = int64_t(p) % s.out_width(), line = int64_t(p) / s.out_width(), i = line % s.out_height(), b = line / s.out_height();
      const int64_t row = i * s.stride + int64_t(tap) / s.kernel_w - s.padding, column = j * s.stride + int64_t(tap) % s.kernel_w - s.padding;
      if (row < 0 || row >= s.height || column < 0 || column >= s.width) continue;
      const size_t q = size_t((b * s.height + row) * s.width + column);
      for (size_t n = 0; n < o; n++)
        for (size_t k = 0; k < c; k++) {
          const float one = w[(n * size_t(s.taps()) + tap) * c + k];
          expected[p * o + n] += xs[q * c + k] * one;
          gradient[q * c + k] += dys[p * o + n] * one;
        }
    }
  const auto both = [&]<class Units>() {
    if (in_windows(s, false)) compute<Units, false>(context, y, x.data, weight.data, expected, s);
    if (in_windows(s, true)) compute<Units, true>(context, dx, dy.data, weight.data, gradient, s);
  };
  both.template operator()<HopperWindows<width>>();
  both.template operator()<HopperWindows<width, 2, true>>();
  TURL_EXPECT(in_windows(s, false) || in_windows(s, true));
  context.multiprocessors = before;
}

// {batch, height, width, channels, out_channels, kernel_h, kernel_w, stride, padding, groups}
TURL_TEST(windows_of_one_image) { check<64>(context, {1, 9, 10, 64, 64, 3, 3, 1, 1, 1}, 2); }
TURL_TEST(windows_of_several_images) { check<128>(context, {5, 7, 7, 64, 128, 3, 3, 1, 1, 1}, 2); }
TURL_TEST(windows_across_images) { check<64>(context, {3, 13, 11, 128, 64, 3, 3, 1, 1, 1}, 1); }
TURL_TEST(windows_of_several_chunks) { check<128>(context, {1, 9, 12, 192, 192, 3, 3, 1, 1, 1}, 4); }
TURL_TEST(windows_and_channels_beside_the_tiles) { check<128>(context, {2, 9, 10, 64, 72, 3, 3, 1, 1, 1}, 2); }
TURL_TEST(windows_and_few_channels) { check<64>(context, {2, 9, 10, 40, 64, 3, 3, 1, 1, 1}, 2); }
TURL_TEST(windows_without_padding) { check<64>(context, {1, 18, 17, 64, 64, 3, 3, 1, 0, 1}, 2); }
TURL_TEST(windows_of_5x5) { check<128>(context, {1, 15, 16, 64, 64, 5, 5, 1, 2, 1}, 2); }
TURL_TEST(windows_of_5x5_with_little_padding) { check<64>(context, {1, 22, 23, 64, 64, 5, 5, 1, 1, 1}, 2); }
TURL_TEST(windows_of_2x3) { check<64>(context, {2, 12, 13, 64, 128, 2, 3, 1, 1, 1}, 2); }
TURL_TEST(windows_of_two_taps) { check<128>(context, {1, 9, 33, 64, 64, 1, 2, 1, 0, 1}, 2); }
TURL_TEST(windows_of_one_tap) { check<128>(context, {3, 13, 15, 64, 128, 1, 1, 1, 0, 1}, 2); }
TURL_TEST(windows_of_one_tap_and_several_chunks) { check<64>(context, {2, 20, 19, 192, 64, 1, 1, 1, 0, 1}, 3); }
TURL_TEST(windows_of_phases) { check<64>(context, {2, 14, 12, 64, 64, 3, 3, 2, 1, 1}, 2); }
TURL_TEST(windows_of_phases_of_odd_sides) { check<128>(context, {1, 27, 29, 128, 192, 3, 3, 2, 1, 1}, 1); }
TURL_TEST(windows_of_phases_in_many_tiles) { check<64>(context, {5, 31, 30, 64, 128, 3, 3, 2, 1, 1}, 4); }
TURL_TEST(windows_of_phases_without_taps) { check<64>(context, {3, 21, 22, 64, 128, 1, 1, 2, 0, 1}, 3); }
TURL_TEST(windows_of_phases_without_padding) { check<64>(context, {2, 26, 25, 64, 64, 3, 3, 2, 0, 1}, 2); }
TURL_TEST(windows_of_phases_of_2x3) { check<128>(context, {2, 23, 24, 64, 64, 2, 3, 2, 1, 1}, 2); }
TURL_TEST(windows_of_phases_of_5x5) { check<64>(context, {1, 30, 31, 64, 64, 5, 5, 2, 2, 1}, 2); }
TURL_TEST(windows_with_more_padding_than_needed) { check<64>(context, {1, 12, 13, 64, 64, 3, 3, 1, 2, 1}, 2); }
TURL_TEST(windows_with_halved_tiles) { check<64>(context, {5, 14, 14, 64, 64, 3, 3, 1, 1, 1}, 2); }
TURL_TEST(windows_on_few_multiprocessors) { check<128>(context, {2, 14, 14, 64, 192, 3, 3, 1, 1, 1}, 1); }
TURL_TEST(windows_one_at_a_time) { check<64>(context, {2, 3, 130, 64, 64, 3, 3, 1, 1, 1}, 1); }
TURL_TEST(windows_of_wide_lines) { check<64>(context, {1, 3, 130, 128, 64, 3, 3, 1, 1, 1}, 1); }

// Tests the weight's gradient, with parts of `part_strips` strips; a strip is expected to have `lines` lines.
void check_weight(Context& context, int batch, int side_y, int side_x, int channels, int out_channels, int part_strips, int lines) {
  const Convolution s{batch, side_y, side_x, channels, out_channels, 3, 3, 1, 1, 1};
  const Strips strips(s);
  TURL_EXPECT(strips.lines == lines);
  const int parts = ceil_div(strips.all, part_strips), blocks_c = ceil_div(channels, 64), blocks_o = ceil_div(out_channels, 64);
  Array<bfloat16> x(size_t(s.x_size())), dy(size_t(s.y_size()));
  for (Array<bfloat16>* a : {&x, &dy})
    for (size_t i = 0; i < a->size; i++) (*a)[i] = small(i + a->size);
  const size_t size = size_t(s.weight_size());
  Array<float> partial(size * size_t(parts), 99.0f);
  launch(context, conv_backward_weight_strips_matrix_kernel<HopperStrips>, dim3{unsigned(blocks_c), unsigned(blocks_o), unsigned(parts)},
         HopperStrips::threads, size_t(strips.shared_bytes()), partial.data,
         image_map(dy.data, {out_channels, side_x, side_y, batch}, strips.pitch, strips.lines),
         image_map(x.data, {channels, side_x, side_y, batch}, strips.pitch, strips.lines + 2), strips, part_strips);
  synchronize();
  std::vector<float> xs(x.data, x.data + x.size), dys(dy.data, dy.data + dy.size);
  for (size_t part = 0; part < size_t(parts); part++) {
    std::vector<float> expected(size);
    for (int strip = int(part) * part_strips; strip < std::min((int(part) + 1) * part_strips, strips.all); strip++)
      for (int line = 0; line < strips.lines; line++)
        for (int j = 0; j < side_x; j++)
          for (int tap = 0; tap < 9; tap++) {
            const int i = strip % strips.of_image * strips.lines + line, b = strip / strips.of_image, y = i + tap / 3 - 1, z = j + tap % 3 - 1;
            if (i >= side_y || y < 0 || y >= side_y || z < 0 || z >= side_x) continue;
            const float* const from = &xs[size_t(((b * side_y + y) * side_x + z) * channels)];
            for (int o = 0; o < out_channels; o++) {
              const float d = dys[size_t(((b * side_y + i) * side_x + j) * out_channels + o)];
              for (int c = 0; c < channels; c++) expected[size_t((o * 9 + tap) * channels + c)] += d * from[c];
            }
          }
    for (size_t i = 0; i < size; i++) TURL_EXPECT(partial[part * size + i] == expected[i]);
  }
}
TURL_TEST(weight_of_whole_images) { check_weight(context, 5, 7, 7, 64, 64, 2, 7); }
TURL_TEST(weight_of_parts_of_images) { check_weight(context, 5, 14, 14, 64, 128, 7, 7); }
TURL_TEST(weight_and_a_line_too_many) { check_weight(context, 2, 25, 28, 64, 64, 1, 13); }
TURL_TEST(weight_and_channels_beside_the_tiles) { check_weight(context, 2, 9, 10, 40, 72, 3, 9); }
TURL_TEST(weight_of_wide_lines) { check_weight(context, 2, 3, 130, 64, 64, 5, 1); }
TURL_TEST(weight_of_one_pixel) { check_weight(context, 3, 1, 1, 64, 8, 1, 1); }

}  // namespace
}  // namespace turl::test
