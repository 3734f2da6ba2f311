// Batch augmentation (native/augment.h). A chunk is one image: its resolution is lowered along x into a buffer,
// then along y.
#include "augment.h"
#include <vector>
#include "cpu/parallel.h"
#include "kernels.h"

namespace turl {

void augment(Context& context, Out y, In images, In parameters, Ints sizes, double mean, double scale) {
  AugmentSizes s(sizes);
  const BlurWeights blur;
  const uint8_t* pixels = images.as<uint8_t>();
  const int32_t* rows = parameters.as<int32_t>();
  with_float(y.dtype, [&]<class T>() {
    T* out = y.as<T>();
    float shift = float(mean), factor = float(1 / scale);
    size_t line = size_t(s.out_width) * 3;
    auto* buffers = static_cast<float*>(
        context.scratch(size_t(s.batch) * (size_t(s.out_height) + 1) * line * sizeof(float)));
    parallel_chunks(context, s.batch, [&](int64_t b) {
      const int32_t* p = rows + b * augment_columns;
      int top = p[0], left = p[1], flip = p[2], shrink = p[3] < 0 ? -p[3] : 0,
          radius = low_resolution_radius(p[3]);
      const float* weight = blur.weight[shrink ? 0 : radius];
      float *smooth = buffers + size_t(b) * (size_t(s.out_height) + 1) * line,
            *source = smooth + size_t(s.out_height) * line;
      for (int i = 0; i < s.out_height; i++) {
        const uint8_t* in = pixels + ((size_t(b) * s.height + top + i) * s.width + left) * 3;
        for (int j = 0; j < s.out_width; j++)
          for (int c = 0; c < 3; c++) source[j * 3 + c] = in[(flip ? s.out_width - 1 - j : j) * 3 + c];
        float* to = smooth + size_t(i) * line;
        if (shrink) {
          std::fill(to, to + line, 0.0f);
          for (int j = 0; j < s.out_width; j++)
            for (int d = -radius; d <= radius; d++) {
              const float w = resample_weight(shrink, j, j + d),
                          *from = source + reflect(j + d, s.out_width) * 3;
              for (int c = 0; c < 3; c++) to[j * 3 + c] += w * from[c];
            }
          continue;
        }
        for (int j = 0; j < s.out_width; j++)
          for (int c = 0; c < 3; c++) {
            float sum = weight[0] * source[j * 3 + c];
            for (int d = 1; d <= radius; d++)
              sum += weight[d] * (source[reflect(j - d, s.out_width) * 3 + c] +
                                  source[reflect(j + d, s.out_width) * 3 + c]);
            to[j * 3 + c] = sum;
          }
      }
      for (int i = 0; i < s.out_height; i++) {
        std::fill(source, source + line, 0.0f);
        for (int d = -radius; d <= radius; d++) {
          const float* from = smooth + size_t(reflect(i + d, s.out_height)) * line;
          float w = shrink ? resample_weight(shrink, i, i + d) : weight[std::abs(d)];
          for (size_t j = 0; j < line; j++) source[j] += w * from[j];
        }
        T* to = out + (size_t(b) * s.out_height + i) * line;
        for (int j = 0; j < s.out_width; j++) {
          float keep = occluded(p, i, j, s) ? 0.0f : 1.0f;
          for (int c = 0; c < 3; c++) to[j * 3 + c] = T((keep * source[j * 3 + c] - shift) * factor);
        }
      }
    });
  });
}

}  // namespace turl
