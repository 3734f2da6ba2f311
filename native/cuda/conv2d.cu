// 2-d convolution, its gradient with respect to the image and to the weight. This file chooses the kernel: conv_image.h (bfloat16, few input
// channels), conv_windows.h and conv_weight_windows.h (bfloat16 on Hopper), conv_matrix.h (bfloat16 on matrix units), conv_depthwise.h (one
// filter for each channel) and conv_gemm.h (everything else). The weight's gradient is a float32 sum over parts of the pixels, added in order.
#include <algorithm>
#include <cmath>
#include "cuda/add_parts.h"
#include "cuda/conv_depthwise.h"
#include "cuda/conv_gemm.h"
#include "cuda/conv_image.h"
#include "cuda/conv_matrix.h"
#include "cuda/conv_weight_windows.h"
#include "cuda/conv_windows.h"
#include "kernels.h"

namespace turl {
namespace {

dim3 tiles(int64_t rows, int64_t columns, int64_t groups) {
  return {unsigned(ceil_div<int64_t>(rows, tile_side)), unsigned(ceil_div<int64_t>(columns, tile_side)), unsigned(groups)};
}
template <class Units> dim3 matrix_tiles(int64_t rows, int64_t columns, int64_t groups) {
  return {unsigned(ceil_div<int64_t>(rows, Units::rows)), unsigned(ceil_div<int64_t>(columns, Units::columns)), unsigned(groups)};
}

bool on_matrix_units(const Convolution& s, In a, In b) {
  return a.dtype == DType::bfloat16 && !s.depthwise() && on_matrix_units(s) && packs<bfloat16>(8, a.as<bfloat16>(), b.as<bfloat16>());
}
// Calls f with the matrix units to use, and whether input channels come in packs. Hopper's units take packs only, and no groups, whose few
// channels would leave most of a tile unused.
template <class F> void with_matrix_units(const Context& context, const Convolution& s, int64_t columns, F f) {
  if (s.group_channels() % 8 != 0) f.template operator()<Ampere, false>();
  else if (s.groups > 1) f.template operator()<Ampere, true>();
  else with_matrix_units(context, columns, [&]<class Units>() { f.template operator()<Units, true>(); });
}

// The convolution, or, if `mirrored`, the image's gradient, by windows; false if these kernels do not suit.
template <bool mirrored> bool by_windows(Context& context, Out y, Out statistics, In x, In weight, const Convolution& s) {
  if (!has_warpgroups(context)) return false;
  if (s.stride > 1 ? !not_timed().phases : s.taps() == 1 && !not_timed().ones) return false;  // docs/decisions/0008-hopper.md
  if (!in_windows(s, mirrored)) return false;
  const auto by = [&]<class Units>() {
    const WindowConvolution<Units> sizes(context, s, mirrored, statistics.size > 0);
    if (sizes.stages == 0) return false;
    const auto map = mirrored ? tensor_map(weight.as<bfloat16>(), {s.channels, s.taps(), s.out_channels}, 2)
                              : tensor_map(weight.as<bfloat16>(), {s.taps() * s.channels, s.out_channels, 1}, 1);
    float* const sums = chunk_sums(context, statistics, sizes.chunks(), s.out_channels);
    launch(context, conv_windows_matrix_kernel<Units, mirrored>, unsigned(sizes.blocks()), Units::threads,
           size_t(sizes.shared_bytes()), y.as<bfloat16>(), sums, x.as<bfloat16>(), map, sizes);
    if (sums) finish_statistics(context, statistics, sums, sizes.chunks(), y.size / s.out_channels, s.out_channels);
    return true;
  };
  const bool narrow = (mirrored ? s.channels : s.out_channels) <= 64;
  if (not_timed().turned &&
      (narrow ? by.template operator()<HopperWindows<64, 2, true>>() : by.template operator()<HopperWindows<128, 2, true>>()))
    return true;
  return narrow ? by.template operator()<HopperWindows<64>>() : by.template operator()<HopperWindows<128>>();
}

dim3 image_grid(const ImageConvolution& s) { return {unsigned(s.blocks()), unsigned(ceil_div(s.out_channels, Image::columns)), 1}; }

// Whether the depthwise kernels for 3 x 3 can do it.
template <class T, class... A> bool in_segments(const Convolution& s, const A*... arrays) {
  return s.depthwise() && s.kernel_h == 3 && s.kernel_w == 3 && s.stride <= 2 && s.batch * (s.height + 2) * (s.width + 2) < (1 << 30) &&
         packs<T>(s.channels, arrays...);
}
// The number of parts of the pixels for which the weight's gradient takes the least time on an H100, by a rough estimate: a multiprocessor
// holds `blocks` blocks and makes 1,500 multiply-adds in a nanosecond; starting and ending a block takes as long as 8 steps of 64 pixels; and
// parts are written and read at 3,000 bytes in a nanosecond.
template <class Units> int64_t cheapest_parts(int64_t pixels, int64_t tiles, int64_t size, int64_t most, int64_t blocks) {
  int64_t best = 1;
  double least = INFINITY;
  for (int64_t parts = 1; parts <= most; parts++) {
    const int64_t waves = ceil_div(tiles * parts, h100_multiprocessors * blocks), steps = ceil_div(ceil_div(pixels, parts), int64_t(64)) + 8;
    const double time = double(waves * blocks * steps * Units::rows * Units::columns) * 64 / 1500 + double(parts * size) * 8 / 3000;
    if (time < least) least = time, best = parts;
  }
  return best;
}

// Calls f with the stride, 1 or 2.
template <class F> void with_stride(int64_t stride, F f) {
  stride == 1 ? f.template operator()<1>() : f.template operator()<2>();
}

}  // namespace

// statistics [2, out_channels]: mean and variance of each channel of y.
void conv2d_forward(Context& context, Out y, MaybeOut statistics, In x, In weight, int64_t batch, int64_t height, int64_t width,
                    int64_t channels, int64_t out_channels, int64_t kernel_h, int64_t kernel_w, int64_t stride, int64_t padding,
                    int64_t groups) {
  if (y.size == 0) return;
  const Convolution s{batch, height, width, channels, out_channels, kernel_h, kernel_w, stride, padding, groups};
  const int64_t pixels = y.size / out_channels;
  if (on_matrix_units(s, x, weight) && of_image(s)) {
    const ImageConvolution sizes(s);
    const auto run = [&](auto kernel) {
      float* const sums = chunk_sums(context, statistics, sizes.blocks(), out_channels);
      launch(context, kernel, image_grid(sizes), Image::threads, 0, y.as<bfloat16>(), sums, x.as<bfloat16>(), weight.as<bfloat16>(), sizes);
      if (sums) finish_statistics(context, statistics, sums, sizes.blocks(), pixels, out_channels);
    };
    return statistics.size > 0 ? run(conv_image_forward_kernel<true>) : run(conv_image_forward_kernel<false>);
  }
  if (on_matrix_units(s, x, weight) && by_windows<false>(context, y, statistics, x, weight, s)) return;
  if (on_matrix_units(s, x, weight))
    return with_matrix_units(context, s, out_channels, [&]<class Units, bool packed>() {
      const dim3 grid = matrix_tiles<Units>(pixels, s.group_out_channels(), groups);
      float* const sums = chunk_sums(context, statistics, grid.x, out_channels);
      launch(context, conv_forward_matrix_kernel<Units, packed>, grid, Units::threads, Units::shared_bytes, y.as<bfloat16>(), sums,
             x.as<bfloat16>(),
             Units::matrix(weight.as<bfloat16>(), {weight.size / out_channels, out_channels, 1}, 1),
             MatrixConvolution(s, Units::tap_multiple));
      if (sums) finish_statistics(context, statistics, sums, int(grid.x), pixels, out_channels);
    });
  bool left = false;
  with_float(x.dtype, [&]<class T>() {
    if (in_segments<T>(s, y.as<T>(), x.as<T>()))
      with_stride(stride, [&]<int step>() {
        const Depthwise sizes(height, width, channels, s.out_height(), s.out_width(), padding);
        const Walk walk(batch * sizes.out_height * sizes.segments, channels, Pack<T>::size, 2);
        const auto run = [&]<bool summed>() {
          float* const sums = chunk_sums(context, summed ? statistics : MaybeOut{}, walk.chunks, channels);
          launch(context, depthwise_3x3_kernel<T, Pack<T>::size, step, false, summed>, walk.grid, walk.block, 0, y.as<T>(), sums,
                 x.as<T>(), weight.as<T>(), sizes, Rows<Pack<T>::size>(walk));
          if (summed) finish_statistics(context, statistics, sums, walk.chunks, pixels, channels);
        };
        if constexpr (std::is_same_v<T, bfloat16> && step == 1)  // with stride 2 there are not enough registers
          if ((left = statistics.size > 0)) return run.template operator()<true>();
        run.template operator()<false>();
      });
    else if (s.depthwise())
      launch(context, depthwise_forward_kernel<T>, blocks_for(y.size, 256), 256, 0, y.as<T>(), x.as<T>(), weight.as<T>(), s);
    else
      launch(context, conv_forward_kernel<T>, tiles(pixels, s.group_out_channels(), groups), tile_threads, 0, y.as<T>(), x.as<T>(),
             weight.as<T>(), s);
  });
  if (statistics.size > 0 && !left) channel_statistics(context, statistics, {y.data, y.size, y.dtype}, pixels, out_channels);
}

void conv2d_backward_data(Context& context, Out dx, In dy, In weight, int64_t batch, int64_t height, int64_t width,
                          int64_t channels, int64_t out_channels, int64_t kernel_h, int64_t kernel_w, int64_t stride,
                          int64_t padding, int64_t groups) {
  const Convolution s{batch, height, width, channels, out_channels, kernel_h, kernel_w, stride, padding, groups};
  if (on_matrix_units(s, dy, weight) && by_windows<true>(context, dx, MaybeOut{}, dy, weight, s)) return;
  if (on_matrix_units(s, dy, weight))
    return with_matrix_units(context, s, channels, [&]<class Units, bool packed>() {
      const int64_t largest_phase = batch * ceil_div(height, stride) * ceil_div(width, stride);
      launch(context, conv_backward_data_matrix_kernel<Units, packed>,
             matrix_tiles<Units>(largest_phase, s.group_channels(), groups * stride * stride), Units::threads, Units::shared_bytes,
             dx.as<bfloat16>(), dy.as<bfloat16>(),
             Units::matrix(weight.as<bfloat16>(), {s.group_channels(), s.taps(), out_channels}, 2),
             MatrixConvolution(s, Units::tap_multiple));
    });
  with_float(dx.dtype, [&]<class T>() {
    if (in_segments<T>(s, dx.as<T>(), dy.as<T>())) {
      const Depthwise sizes(s.out_height(), s.out_width(), channels, height, width, stride == 1 ? 2 - padding : padding);
      const Walk walk(batch * height * sizes.segments, channels, Pack<T>::size, 2);
      const Rows<Pack<T>::size> rows(walk);
      if (stride == 1)
        launch(context, depthwise_3x3_kernel<T, Pack<T>::size, 1, true, false>, walk.grid, walk.block, 0, dx.as<T>(), nullptr, dy.as<T>(),
               weight.as<T>(), sizes, rows);
      else
        launch(context, depthwise_3x3_backward_data_kernel<T, Pack<T>::size>, walk.grid, walk.block, 0, dx.as<T>(), dy.as<T>(),
               weight.as<T>(), sizes, rows);
    } else if (s.depthwise())
      launch(context, depthwise_backward_data_kernel<T>, blocks_for(dx.size, 256), 256, 0, dx.as<T>(), dy.as<T>(),
             weight.as<T>(), s);
    else
      launch(context, conv_backward_data_kernel<T>, tiles(dx.size / channels, s.group_channels(), groups), tile_threads, 0,
             dx.as<T>(), dy.as<T>(), weight.as<T>(), s);
  });
}

void conv2d_backward_weight(Context& context, Out dweight, In dy, In x, int64_t batch, int64_t height, int64_t width,
                            int64_t channels, int64_t out_channels, int64_t kernel_h, int64_t kernel_w, int64_t stride,
                            int64_t padding, int64_t groups) {
  const Convolution s{batch, height, width, channels, out_channels, kernel_h, kernel_w, stride, padding, groups};
  const int64_t size = s.weight_size(), values = s.taps() * s.group_channels(), outs = s.group_out_channels();
  // Divides `steps` steps (of 64 pixels, or of what the kernel takes at once) into about `wanted` parts, which use at most 64 MiB of memory, runs
  // body(partial, grid, steps of a part), and adds the parts. `grid` is that of one part, whose z is multiplied by the number of parts.
  const int64_t pixels = s.y_size() / out_channels, most_parts = std::clamp<int64_t>((int64_t(16) << 20) / size, 1, 128);
  const auto in_parts_of = [&](int64_t steps, dim3 grid, int64_t wanted, auto body) {
    const int64_t part_steps = ceil_div(std::max<int64_t>(steps, 1), std::clamp<int64_t>(wanted, 1, most_parts));
    const int64_t parts = ceil_div(steps, part_steps);
    auto* partial = static_cast<float*>(context.scratch(size_t(std::max<int64_t>(parts, 1) * size) * sizeof(float)));
    grid.z *= unsigned(parts);
    if (parts > 0) body(partial, grid, part_steps);
    add_parts(context, dweight.as<float>(), partial, parts, size);
  };
  const auto in_parts = [&](dim3 grid, int64_t wanted, auto body) {
    in_parts_of(ceil_div<int64_t>(pixels, 64), grid, wanted, [&](float* partial, dim3 grid, int64_t part_steps) {
      body(partial, grid, part_steps * 64);
    });
  };
  if (on_matrix_units(s, dy, x) && of_image(s) && pixels > 0) {
    const ImageConvolution sizes(s);
    auto* const partial = static_cast<float*>(context.scratch(size_t(sizes.blocks() * size) * sizeof(float)));
    launch(context, conv_image_backward_weight_kernel, image_grid(sizes), Image::threads, Image::shared_bytes, partial, dy.as<bfloat16>(),
           x.as<bfloat16>(), sizes);
    return add_parts(context, dweight.as<float>(), partial, sizes.blocks(), size);
  }
  if (on_matrix_units(s, dy, x) && has_warpgroups(context) && in_strips(s)) {
    using Units = HopperStrips;
    const Strips strips(s);
    const dim3 one{unsigned(ceil_div<int64_t>(channels, Units::channels)), unsigned(ceil_div<int64_t>(out_channels, Units::channels)), 1};
    const int64_t wanted = cheapest_parts<Units>(int64_t(strips.all) * strips.positions, int64_t(one.x) * one.y, size, most_parts, 1);
    return in_parts_of(strips.all, one, wanted, [&](float* partial, dim3 grid, int64_t part_strips) {
      launch(context, conv_backward_weight_strips_matrix_kernel<Units>, grid, Units::threads, size_t(strips.shared_bytes()), partial,
             image_map(dy.as<bfloat16>(), {out_channels, width, height, batch}, strips.pitch, strips.lines),
             image_map(x.as<bfloat16>(), {channels, width, height, batch}, strips.pitch, strips.lines + 2), strips, int(part_strips));
    });
  }
  if (on_matrix_units(s, dy, x))
    return with_matrix_units(context, s, outs, [&]<class Units, bool packed>() {
      const dim3 one = matrix_tiles<Units>(values, outs, groups);
      const int64_t tiles = int64_t(one.x) * one.y * groups;
      const int64_t wanted = cheapest_parts<Units>(pixels, tiles, size, most_parts, Units::blocks(packed));
      in_parts(one, wanted, [&](float* partial, dim3 grid, int64_t part_pixels) {
        launch(context, conv_backward_weight_matrix_kernel<Units, packed>, grid, Units::threads, Units::shared_bytes, partial,
               Units::matrix(dy.as<bfloat16>(), {out_channels, dy.size / out_channels, 1}, 1), x.as<bfloat16>(),
               MatrixConvolution(s, Units::tap_multiple), part_pixels);
      });
    });
  with_float(x.dtype, [&]<class T>() {
    if (in_segments<T>(s, dy.as<T>(), x.as<T>()))
      with_stride(stride, [&]<int step>() {
        const Depthwise sizes(height, width, channels, s.out_height(), s.out_width(), padding);
        const Walk walk(batch * sizes.out_height * sizes.segments, channels, 4, 2);
        auto* partial = static_cast<float*>(context.scratch(size_t(walk.chunks * size) * sizeof(float)));
        launch(context, depthwise_3x3_backward_weight_kernel<T, step>, walk.grid, walk.block, 0, partial, dy.as<T>(), x.as<T>(), sizes,
               Rows<4>(walk));
        add_parts(context, dweight.as<float>(), partial, walk.chunks, size);
      });
    else if (s.depthwise())
      in_parts({unsigned(ceil_div<int64_t>(channels, 64)), unsigned(s.taps()), 1}, 512 / (ceil_div<int64_t>(channels, 64) * s.taps()),
               [&](float* partial, dim3 grid, int64_t part_pixels) {
                 launch(context, depthwise_backward_weight_kernel<T>, grid, 64, 0, partial, dy.as<T>(), x.as<T>(), s, part_pixels);
               });
    else
      in_parts(tiles(outs, values, groups), 512 / (ceil_div<int64_t>(outs, tile_side) * ceil_div<int64_t>(values, tile_side) * groups),
               [&](float* partial, dim3 grid, int64_t part_pixels) {
                 launch(context, conv_backward_weight_kernel<T>, grid, tile_threads, 0, partial, dy.as<T>(), x.as<T>(), s, part_pixels);
               });
  });
}

}  // namespace turl
