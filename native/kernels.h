// The kernel table. Each kernel is one line: its name and its arguments (outputs, inputs, sizes, scalars). The line's text is
// compared with its twin in src/tensor/kernels.ts when the addon is opened, so that the two cannot drift apart.
// Implementations: native/cpu/<op>.cpp and native/cuda/<op>.cu, as turl::NAME(Context&, ARGUMENTS).
// Argument types: Out, In, Ints, int64_t, float, double.
#pragma once
#include "types.h"

#define TURL_KERNELS(kernel)                                                                     \
  kernel(fill, (Out y, double value))                                                            \
  kernel(copy, (Out y, In x))                                                                    \
  kernel(cast, (Out y, In x))                                                                    \
  kernel(add, (Out y, In a, In b))                                                               \
  kernel(prelu_forward, (Out y, In x, In slope, int64_t rows, int64_t channels))                 \
  kernel(prelu_backward, (Out dx, Out dslope, In dy, In x, In slope, int64_t rows, int64_t channels))

#define TURL_UNWRAP(...) __VA_ARGS__

namespace turl {

struct KernelTable {
#define TURL_FIELD(name, arguments) void (*name)(Context&, TURL_UNWRAP arguments);
  TURL_KERNELS(TURL_FIELD)
#undef TURL_FIELD
};

}  // namespace turl
