// Fills the kernel table of one backend. Compiled into every backend; a kernel that the backend lacks stays null.
#include "table.h"

namespace turl {

#define TURL_DECLARE(name, arguments) __attribute__((weak)) void name(Context&, TURL_UNWRAP arguments);
TURL_KERNELS(TURL_DECLARE)
#undef TURL_DECLARE

const KernelTable& kernel_table() {
#define TURL_ENTRY(name, arguments) &name,
  static const KernelTable table = {TURL_KERNELS(TURL_ENTRY)};
#undef TURL_ENTRY
  return table;
}

}  // namespace turl
