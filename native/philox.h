// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11): 128 random bits from a 64-bit key and a
// 128-bit counter, without any state. Here key = seed and counter = (block, purpose, epoch, sample), so a draw depends on what it
// is for and on nothing else: not on threads, devices or order. src/tensor/philox.ts has the same functions, numbers included.
#pragma once
#include <cmath>
#include "types.h"

namespace turl {

struct Philox4 {
  uint32_t word[4];
};

TURL_BOTH Philox4 philox(uint64_t seed, uint32_t block, uint32_t purpose, uint32_t epoch, uint32_t sample) {
  uint32_t key0 = uint32_t(seed), key1 = uint32_t(seed >> 32);
  uint32_t c0 = block, c1 = purpose, c2 = epoch, c3 = sample;
  for (int round = 0; round < 10; round++) {
    uint64_t p0 = uint64_t(0xD2511F53u) * c0, p1 = uint64_t(0xCD9E8D57u) * c2;
    uint32_t n0 = uint32_t(p1 >> 32) ^ c1 ^ key0, n2 = uint32_t(p0 >> 32) ^ c3 ^ key1;
    c0 = n0, c1 = uint32_t(p1), c2 = n2, c3 = uint32_t(p0);
    key0 += 0x9E3779B9u, key1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// 24 bits of a word as a float in [0, 1); exact, so equal on every device.
TURL_BOTH float unit_interval(uint32_t word) { return float(word >> 8) * 0x1p-24f; }

// The index-th draw: four per block.
TURL_BOTH uint32_t random_word(uint64_t seed, uint32_t purpose, uint32_t epoch, uint32_t sample, uint32_t index) {
  return philox(seed, index >> 2, purpose, epoch, sample).word[index & 3];
}
TURL_BOTH float random_uniform(uint64_t seed, uint32_t purpose, uint32_t epoch, uint32_t sample, uint32_t index) {
  return unit_interval(random_word(seed, purpose, epoch, sample, index));
}

// An integer in [0, n): the upper half of a 64-bit product; the bias is below n / 2^32.
TURL_BOTH uint32_t random_int(uint64_t seed, uint32_t purpose, uint32_t epoch, uint32_t sample, uint32_t index, uint32_t n) {
  return uint32_t((uint64_t(random_word(seed, purpose, epoch, sample, index)) * n) >> 32);
}

// A standard normal draw by Box and Muller from words 2 index and 2 index + 1, that is two per block.
TURL_BOTH double random_normal(uint64_t seed, uint32_t purpose, uint32_t epoch, uint32_t sample, uint32_t index) {
  Philox4 r = philox(seed, index >> 1, purpose, epoch, sample);
  int first = int(index & 1) * 2;
  double radius = sqrt(-2.0 * log((double(r.word[first] >> 8) + 1.0) * 0x1p-24));
  return radius * cos(6.283185307179586 * double(r.word[first + 1] >> 8) * 0x1p-24);
}

}  // namespace turl
