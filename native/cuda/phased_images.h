// How convolutions by windows (conv_windows.h) number the pixels of their images.
//
// The pixels of all images are numbered by positions, with gaps: after a line come as many positions as the taps reach beyond it, after an
// image as many lines. What taps meet to the left of a line is the gap after the line before, and so on. So the pixel of a tap is the same
// number of positions further for every result. A result has the position of the pixel with its line and column. Positions without a result
// are computed in vain: for 3x3 taps at 56x56 there are (57 x 57) / (56 x 56) = 1.04 times as many positions as results, at 7x7 1.31 times.
//
// With stride 2 the larger image consists of four phases, the pixels (2 i + p, 2 j + q), and each tap meets only one of them, with stride 1.
// The convolution is the sum of convolutions of the phases of x; a phase of the image's gradient is a convolution of dy.
#pragma once
#include <algorithm>
#include "convolution.h"
#include "cuda/device.h"
#include "divisor.h"

namespace turl {

// A phase of the larger image: its pixels (stride i + p, stride j + q), and the `down` x `across` taps that meet them. The first of these taps
// is `start` positions further than a result's position, and is number `first` of the weight's taps.
struct Phase {
  int p, q, start, down, across, first;
  TURL_BOTH int taps() const { return down * across; }
};

// A convolution of x, or, if `mirrored`, the image's gradient from dy: from images with `depth` channels to images with `columns` channels, by
// positions and phases as described above. Phases are added up, or, if `mirrored`, each has results of its own.
struct PhasedImages {
  int batch, in_height, in_width, depth, out_height, out_width, columns, kernel_w;
  int in_step, out_step;  // how far apart the pixels of neighbouring positions are: in what is read, and in the result
  int phase_count = 0;
  Phase phases[4];
  int pitch = 1, image;  // positions of a line and of an image
  Divisor by_image{1}, by_pitch{1};

  PhasedImages(const Convolution& s, bool mirrored)
      : batch(int(s.batch)), in_height(int(mirrored ? s.out_height() : s.height)), in_width(int(mirrored ? s.out_width() : s.width)),
        depth(int(mirrored ? s.out_channels : s.channels)), out_height(int(mirrored ? s.height : s.out_height())),
        out_width(int(mirrored ? s.width : s.out_width())), columns(int(mirrored ? s.channels : s.out_channels)),
        kernel_w(int(s.kernel_w)), in_step(int(mirrored ? 1 : s.stride)), out_step(int(mirrored ? s.stride : 1)) {
    const auto down = [&](int p) { return Along(s, s.kernel_h, mirrored, p, in_height, out_height); };
    const auto across = [&](int q) { return Along(s, s.kernel_w, mirrored, q, in_width, out_width); };
    int lines = 1;
    for (int p = 0; p < s.stride; p++) lines = std::max(lines, down(p).positions), pitch = std::max(pitch, across(p).positions);
    image = lines * pitch, by_image = Divisor(image), by_pitch = Divisor(pitch);
    for (int p = 0; p < s.stride; p++)
      for (int q = 0; q < s.stride; q++) {
        const Along y = down(p), x = across(q);
        const Phase phase{p, q, y.start * pitch + x.start, y.taps, x.taps, y.first * kernel_w + x.first};
        if (phase.taps() > 0 || mirrored) phases[phase_count++] = phase;
      }
  }

  // Along one axis, the lines or columns of a phase: the number of its taps, the first tap, how far from the result its pixel is, and how many
  // positions the axis takes.
  struct Along {
    int taps, first, start, positions;
    Along(const Convolution& s, int64_t kernel, bool mirrored, int64_t p, int64_t in, int64_t out) {
      const int64_t step = s.stride, least = (p + s.padding) % step, count = least < kernel ? (kernel - 1 - least) / step + 1 : 0;
      const int64_t most = least + step * (count - 1), of_phase = ceil_div(std::max<int64_t>((mirrored ? out : in) - p, 0), step);
      const int64_t from = mirrored ? (p + s.padding - most) / step : (least - s.padding - p) / step, to = from + count - 1;
      taps = int(count), first = int(mirrored ? most : least), start = int(from);
      positions = int(std::max((mirrored ? in : of_phase) + std::max<int64_t>(-from, 0), (mirrored ? of_phase : out) + std::max<int64_t>(to, 0)));
    }
  };
  // Positions of all results of a phase, gaps between images included.
  int64_t positions() const {
    return (batch - 1) * int64_t(image) + (ceil_div(out_height, out_step) - 1) * pitch + ceil_div(out_width, out_step);
  }
  // Positions that so many results meet with the taps of a phase, rounded up to a multiple of 8.
  TURL_BOTH int window(const Phase& phase, int results) const {
    return (results + (phase.down - 1) * pitch + phase.across - 1 + 7) / 8 * 8;
  }
  __device__ int in_pixel(int position, const Phase& phase) const { return pixel(position, phase, in_height, in_width, in_step); }
  __device__ int out_pixel(int position, const Phase& phase) const { return pixel(position, phase, out_height, out_width, out_step); }

 private:
  // The number of the pixel at a position in images of height x width, or -1 where there is none.
  __device__ int pixel(int position, const Phase& phase, int height, int width, int step) const {
    if (position < 0) return -1;
    const int b = by_image.quotient(position), rest = by_image.remainder(position, b), line = by_pitch.quotient(rest);
    int i = line, j = by_pitch.remainder(rest, line);
    if (step > 1) i = i * step + phase.p, j = j * step + phase.q;
    return b < batch && i < height && j < width ? (b * height + i) * width + j : -1;
  }
};

}  // namespace turl
