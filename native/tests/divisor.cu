// Division by an invariant number against division.
#include "divisor.h"
#include "tests/test.h"

namespace turl::test {
namespace {

TURL_TEST(division_by_an_invariant_number) {
  for (int64_t base : {1, 2, 3, 5, 7, 12, 24, 56, 64, 72, 112, 1000, 12544, 65535, 65536, 1 << 30, (1 << 30) + 1, 0x7fffffff})
    for (int64_t d : {base - 1, base}) {
      if (d < 1) continue;
      const Divisor divisor{int(d)};
      for (int64_t multiple : {int64_t(0), int64_t(1), int64_t(2), int64_t(9), 0x7fffffff / d - 1, 0x7fffffff / d})
        for (int64_t n : {multiple * d - 1, multiple * d, multiple * d + 1, multiple * d + d / 2, int64_t(0x7fffffff)}) {
          if (n < 0 || n > 0x7fffffff) continue;
          const int quotient = divisor.quotient(int(n));
          TURL_EXPECT(quotient == n / d);
          TURL_EXPECT(divisor.remainder(int(n), quotient) == n % d);
        }
    }
}

}  // namespace
}  // namespace turl::test
