#pragma once
#include "kernels.h"

namespace turl {
const KernelTable& kernel_table();  // this backend's implementations
}
