// Which kernels a device gets: those of its own compute capability, or of a lower one that TURL_COMPUTE_CAPABILITY names; and those that
// TURL_CUDA_NOT_TIMED names.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <stdexcept>
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
  if (named / 10 == 9 && device / 10 != 9)
    throw std::runtime_error(std::string("TURL_COMPUTE_CAPABILITY: expected below 9.0 or from 10.0 on, since a GPU of ") +
                             std::to_string(device / 10) + "." + std::to_string(device % 10) + " has no wgmma, got " + wanted);
  return named;
}

// Whether the kernels of warpgroup_product.h run there: wgmma is of 9.x alone.
inline bool has_warpgroups(const Context& context) { return context.capability / 10 == 9; }

// What TURL_CUDA_NOT_TIMED names, with commas between: what has run on the emulated device only, and so is left out otherwise
// (docs/decisions/0008-hopper.md).
struct NotTimed {
  bool early = false, ones = false, phases = false, turned = false;

  NotTimed() {
    const char* const variable = std::getenv("TURL_CUDA_NOT_TIMED");
    const std::string_view names = variable ? variable : "";
    for (size_t begin = 0; begin < names.size();) {
      const size_t end = std::min(names.find(',', begin), names.size());
      const std::string_view name = names.substr(begin, end - begin);
      if (name == "early") early = true;
      else if (name == "ones") ones = true;
      else if (name == "phases") phases = true;
      else if (name == "turned") turned = true;
      else
        throw std::runtime_error("TURL_CUDA_NOT_TIMED: expected some of early, ones, phases and turned, with commas between, got " +
                                 std::string(names));
      begin = end + 1;
    }
  }
};
inline const NotTimed& not_timed() {
  static const NotTimed named;
  return named;
}

}  // namespace turl
