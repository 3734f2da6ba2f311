// Which kernels a device gets: those for its compute capability, or for a lower one that TURL_COMPUTE_CAPABILITY names; and the variants that
// TURL_CUDA_NOT_TIMED names.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>
#include "types.h"

namespace turl {

// The compute capability that kernels may count on, 80 for 8.0, on a device of capability `device`.
inline int usable_capability(int device) {
  const char* const wanted = std::getenv("TURL_COMPUTE_CAPABILITY");
  if (!wanted || !*wanted) return device;
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

// Whether kernels for warpgroups (warpgroup_product.h) can run: only 9.x has wgmma.
inline bool has_warpgroups(const Context& context) { return context.capability / 10 == 9; }

// The variants that TURL_CUDA_NOT_TIMED names, separated by commas. They have run on the emulated device only, have never been timed on a
// GPU, and so are off by default. docs/decisions/0008-hopper.md says what each does.
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
