// Batch augmentation (native/augment.h). A block computes `lines` rows of one image: it reads lines + 2 radius rows of uint8 once, lowers their
// resolution along x into shared memory, then along y, and writes lines x out_width x 3 values. A thread has a few elements of a row and goes
// from row to row, so that what depends on the column only is computed once.
#include "augment.h"
#include "cuda/device.h"
#include "kernels.h"

namespace turl {
namespace {

constexpr int lines = 8, threads = 128;

template <class T>
__global__ void augment_kernel(T* y, const uint8_t* images, const int32_t* parameters, AugmentSizes s, BlurWeights blur, float mean,
                               float factor) {
  begin_kernel();
  float* smooth = dynamic_shared<float>();
  const int b = int(blockIdx.y), first = int(blockIdx.x) * lines, line = s.out_width * 3;
  const int32_t* p = parameters + int64_t(b) * augment_columns;
  const int top = p[0], left = p[1], flip = p[2], shrink = p[3] < 0 ? -p[3] : 0, radius = low_resolution_radius(p[3]);
  const float* weight = blur.weight[shrink ? 0 : radius];
  const uint8_t* image = images + (int64_t(b) * s.height + top) * s.width * 3 + left * 3;
  for (int e = int(threadIdx.x); e < line; e += threads) {
    const int j = e / 3, c = e % 3;
    const bool edge = j < radius || j + radius >= s.out_width;
    const auto place = [&](int column) { return (flip ? s.out_width - 1 - column : column) * 3 + c; };
    const int own = place(j), next = flip ? -3 : 3;
    for (int r = 0; r < lines + 2 * radius; r++) {
      const uint8_t* row = image + int64_t(reflect(first - radius + r, s.out_height)) * s.width * 3;
      const auto pixel = [&](int d) { return float(row[edge ? place(reflect(j + d, s.out_width)) : own + d * next]); };
      float sum = shrink ? 0 : weight[0] * float(row[own]);
      if (shrink)
        for (int d = -radius; d <= radius; d++) sum += resample_weight(shrink, j, j + d) * pixel(d);
      else
        for (int d = 1; d <= radius; d++) sum += weight[d] * (pixel(-d) + pixel(d));
      smooth[r * line + e] = sum;
    }
  }
  // Each thread reads what it has written itself.
  for (int e = int(threadIdx.x); e < line; e += threads) {
    const int j = e / 3;
    for (int i = first; i < min(first + lines, s.out_height); i++) {
      float sum = 0;
      for (int d = -radius; d <= radius; d++)
        sum += (shrink ? resample_weight(shrink, i, i + d) : weight[d < 0 ? -d : d]) * smooth[(i - first + d + radius) * line + e];
      if (occluded(p, i, j, s)) sum = 0;
      y[(int64_t(b) * s.out_height + i) * line + e] = T((sum - mean) * factor);
    }
  }
}

}  // namespace

void augment(Context& context, Out y, In images, In parameters, Ints sizes, double mean, double scale) {
  AugmentSizes s(sizes);
  with_float(y.dtype, [&]<class T>() {
    dim3 grid = {unsigned(ceil_div(s.out_height, lines)), unsigned(s.batch), 1};
    size_t shared = size_t(lines + 2 * largest_radius) * s.out_width * 3 * sizeof(float);
    launch(context, augment_kernel<T>, grid, threads, shared, y.as<T>(), images.as<uint8_t>(),
           parameters.as<int32_t>(), s, BlurWeights(), float(mean), float(1 / scale));
  });
}

}  // namespace turl
