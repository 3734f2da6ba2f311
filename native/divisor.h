// Division by a number that is known before a loop: a multiplication and a shift in place of the some twenty instructions that a division
// takes on a GPU (Granlund, Montgomery: "Division by Invariant Integers using Multiplication", PLDI 1994).
#pragma once
#include "types.h"

namespace turl {

// n / divisor and n % divisor for 0 <= n < 2^31 and 1 <= divisor < 2^31.
class Divisor {
 public:
  TURL_BOTH explicit Divisor(int divisor) : divisor_(divisor) {
    while ((uint64_t(1) << shift_) < uint64_t(divisor)) shift_++;
    multiplier_ = uint32_t((((uint64_t(1) << shift_) - uint64_t(divisor)) << 32) / uint64_t(divisor) + 1);
  }
  TURL_BOTH int quotient(int n) const {
    return int((uint32_t((uint64_t(uint32_t(n)) * multiplier_) >> 32) + uint32_t(n)) >> shift_);
  }
  TURL_BOTH int remainder(int n, int quotient) const { return n - quotient * divisor_; }

 private:
  int divisor_;
  uint32_t multiplier_, shift_ = 0;
};

}  // namespace turl
