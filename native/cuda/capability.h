// Which kernels a device gets: those of its own compute capability, or of a lower one that TURL_COMPUTE_CAPABILITY names; and those that
// TURL_CUDA_NOT_TIMED names.
#pragma once
#include <cstdlib>
#include <string>
#include <string_view>
#include "types.h"

namespace turl {

// The compute capability that kernels may count on, 80 for 8.0, on a device that has this one.
inline int usable_capability(int device) {
  const char* const wanted = std::getenv("TURL_COMPUTE_CAPABILITY");
  if (!wanted) return device;
  char* end = nullptr;
  const int named = int(std::strtod(wanted, &end) * 10 + 0.5);
  if (*end || named < 80 || named > device)
    throw std::runtime_error("TURL_COMPUTE_CAPABILITY: expected 8.0 to " + std::to_string(device / 10) + "." +
                             std::to_string(device % 10) + ", got " + wanted);
  return named;
}

// Whether the kernels of warpgroup_product.h run there: wgmma is of 9.x alone.
inline bool has_warpgroups(const Context& context) { return context.capability / 10 == 9; }

// Whether TURL_CUDA_NOT_TIMED, a list with commas, names this: what has run on the emulated device only, and so is left out otherwise.
inline bool not_timed_but_wanted(std::string_view what) {
  static const char* const variable = std::getenv("TURL_CUDA_NOT_TIMED");
  if (!variable) return false;
  for (std::string_view rest = variable; !rest.empty();) {
    const size_t end = rest.find(',');
    if (rest.substr(0, end) == what) return true;
    rest = end == rest.npos ? std::string_view{} : rest.substr(end + 1);
  }
  return false;
}

}  // namespace turl
