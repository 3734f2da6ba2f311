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

constexpr int philox_rounds = 10;
struct PhiloxKey {
  uint32_t low, high;
  TURL_BOTH explicit PhiloxKey(uint64_t seed) : low(uint32_t(seed)), high(uint32_t(seed >> 32)) {}
  TURL_BOTH void next() { low += 0x9E3779B9u, high += 0xBB67AE85u; }
};
TURL_BOTH void philox_round(uint32_t& c0, uint32_t& c1, uint32_t& c2, uint32_t& c3, PhiloxKey key) {
  uint64_t p0 = uint64_t(0xD2511F53u) * c0, p1 = uint64_t(0xCD9E8D57u) * c2;
  c0 = uint32_t(p1 >> 32) ^ c1 ^ key.low, c2 = uint32_t(p0 >> 32) ^ c3 ^ key.high;
  c1 = uint32_t(p1), c3 = uint32_t(p0);
}

TURL_BOTH Philox4 philox(uint64_t seed, uint32_t block, uint32_t purpose, uint32_t epoch, uint32_t sample) {
  PhiloxKey key(seed);
  Philox4 r = {{block, purpose, epoch, sample}};
  for (int round = 0; round < philox_rounds; round++, key.next()) philox_round(r.word[0], r.word[1], r.word[2], r.word[3], key);
  return r;
}

// Philox of the blocks [first, first + count): words[k][j] is word k of block first + j. All blocks go through a round together, so that
// the compiler makes vectors over j.
template <int count>
void philox_blocks(uint32_t (&words)[4][count], uint64_t seed, uint32_t first, uint32_t purpose, uint32_t epoch, uint32_t sample) {
  PhiloxKey key(seed);
  for (int j = 0; j < count; j++)
    words[0][j] = first + uint32_t(j), words[1][j] = purpose, words[2][j] = epoch, words[3][j] = sample;
  for (int round = 0; round < philox_rounds; round++, key.next())
    for (int j = 0; j < count; j++) {
      uint32_t c0 = words[0][j], c1 = words[1][j], c2 = words[2][j], c3 = words[3][j];
      philox_round(c0, c1, c2, c3, key);
      words[0][j] = c0, words[1][j] = c1, words[2][j] = c2, words[3][j] = c3;
    }
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
