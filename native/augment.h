// Batch augmentation, shared by the CPU and CUDA kernels. From uint8 images [B, H, W, 3] to y [B, h, w, 3]:
//   crop h x w at (top, left); mirror; low resolution of the crop; blocks of a blocks x blocks grid made
//   black; (value - mean) / scale.
// One row of parameters (int32) for each image: top, left, flip (0, 1), low resolution, then 256 bits: bit
// (row * blocks + column) makes that block black. Low resolution is 0 for none; a size, odd, 3 to 11 pixels,
// for Gaussian blur; or minus a factor f, -2 to -8: the crop is made f times smaller by means over f x f
// pixels, from the upper left corner on, and bilinearly as large as it was. Borders are reflected without
// repeating the edge (reflect-101), and sigma = 0.3 ((size - 1) / 2 - 1) + 0.8 pixels, as image libraries do
// for a given size.
#pragma once
#include <cmath>
#include "types.h"

namespace turl {

constexpr int augment_columns = 12, largest_blur = 11, largest_blur_radius = largest_blur / 2;
constexpr int largest_factor = 8, largest_radius = (3 * largest_factor - 2) / 2;

struct AugmentSizes {
  int batch, height, width, out_height, out_width, blocks;
  explicit AugmentSizes(const Ints& s) {
    if (s.size != 6) throw std::runtime_error("augment expects six sizes");
    batch = s[0], height = s[1], width = s[2], out_height = s[3], out_width = s[4], blocks = s[5];
  }
};

// Half of each kernel by radius: weight[r][d] for distance d <= r; radius 0 is the identity.
struct BlurWeights {
  float weight[largest_blur_radius + 1][largest_blur_radius + 1] = {};
  BlurWeights() {
    weight[0][0] = 1;
    for (int r = 1; r <= largest_blur_radius; r++) {
      double sigma = 0.3 * (r - 1) + 0.8, total = 0;
      for (int d = -r; d <= r; d++) total += std::exp(-d * d / (2 * sigma * sigma));
      for (int d = 0; d <= r; d++) weight[r][d] = float(std::exp(-d * d / (2 * sigma * sigma)) / total);
    }
  }
};

// The low-resolution value of a pixel depends on pixels up to this far away, along either axis.
TURL_BOTH int low_resolution_radius(int value) {
  return value < 0 ? (-3 * value - 2) / 2 : value / 2;
}

// Along one axis, made smaller by `factor` and larger again: the weight of pixel k (which may lie beyond the
// edge) in pixel j. The mean of k's cell of `factor` pixels has a weight by the distance of the cell's centre
// from j (bilinear interpolation).
TURL_BOTH float resample_weight(int factor, int j, int k) {
  int cell = (k < 0 ? k - factor + 1 : k) / factor;
  float distance = float(cell * factor) + float(factor - 1) * 0.5f - float(j),
        share = 1 - (distance < 0 ? -distance : distance) / float(factor);
  return share > 0 ? share / float(factor) : 0;
}

// The index in [0, n) to which reflection at the first and last element brings i.
TURL_BOTH int reflect(int i, int n) {
  if (n == 1) return 0;
  while (i < 0 || i >= n) i = i < 0 ? -i : 2 * (n - 1) - i;
  return i;
}

// Whether the pixel (row, column) of the output lies in a black block.
TURL_BOTH bool occluded(const int32_t* parameters, int row, int column, const AugmentSizes& s) {
  int bit = (row * s.blocks / s.out_height) * s.blocks + column * s.blocks / s.out_width;
  return (uint32_t(parameters[4 + bit / 32]) >> (bit % 32)) & 1;
}

}  // namespace turl
