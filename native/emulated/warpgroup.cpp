#include "cuda/warpgroup.h"
#include "emulated/sanitizer.h"

namespace turl {
namespace emulated {
namespace {

// An operand, as described by the bits of its descriptor.
struct Operand {
  uint64_t bits;
  bool by_side;

  uint32_t field(int first) const { return uint32_t(bits >> first & 0x3fff) * 16; }
  // The pack of eight elements that begins at this side and depth. Its elements are neighbours in depth, or, if by_side, in side.
  const Pack<bfloat16>* pack(int side, int k) const {
    const uint32_t block = field(16), rows = field(32);
    const int line = by_side ? k : side, place = by_side ? side % 64 * 2 : k * 2;
    uint32_t at = field(0) + uint32_t(line / 8) * rows + uint32_t(line % 8) * 128 + uint32_t(place);
    if (by_side) at += uint32_t(side / 64) * block;
    at ^= (at >> 7 & 7) << 4;
    return reinterpret_cast<const Pack<bfloat16>*>(self->processor->dynamic_shared() + at);
  }
  // f(side, depth, pack) for every pack of `count` sides from `first` on, 16 deep.
  template <class F> void each_pack(int first, int count, F f) const {
    for (int side = first; side < first + count; side += by_side ? 8 : 1)
      for (int k = 0; k < 16; k += by_side ? 1 : 8) f(side, k, pack(side, k));
  }
  // to[k * count + side - first]
  void read(float* to, int first, int count) const {
    each_pack(first, count, [&](int side, int k, const Pack<bfloat16>* pack) {
      for (int n = 0; n < 8; n++) to[(by_side ? k : k + n) * count + side - first + (by_side ? n : 0)] = float((*pack)[n]);
    });
  }
};

constexpr int most_columns = 256;

// The part of a product that one warp computes: 16 rows, whose sums its lanes have as in mma.h.
void multiply(Thread* const* lanes, size_t index) {
  const Product& mine = lanes[0]->products[index];
  for (int lane = 1; lane < warp_size; lane++) {
    const Product& p = lanes[lane]->products[index];
    if (p.a != mine.a || p.b != mine.b) self->processor->fail(text(mine.site) + ": the lanes name different operands");
  }
  const int columns = mine.columns, first_row = lanes[0]->rank / warp_size % 4 * 16;
  float a[16][16], b[16 * most_columns], d[16][most_columns];
  Operand{mine.a, mine.a_by_side}.read(a[0], first_row, 16);
  Operand{mine.b, mine.b_by_side}.read(b, 0, columns);
  const auto each_sum = [&](auto f) {
    for (int lane = 0; lane < warp_size; lane++)
      for (int i = 0; i < columns / 2; i++)
        f(lanes[lane]->products[index].d[i], d[lane / 4 + i / 2 % 2 * 8][i / 4 * 8 + lane % 4 * 2 + i % 2]);
  };
  each_sum([](float from, float& to) { to = from; });
  for (int k = 0; k < 16; k++)
    for (int row = 0; row < 16; row++)
      for (int column = 0; column < columns; column++) d[row][column] += a[k][row] * b[k * columns + column];
  each_sum([](float& to, float from) { to = from; });
}

size_t due(const Thread& thread, int latest) {
  return size_t(std::count_if(thread.products.begin(), thread.products.end(),
                              [&](const Product& p) { return p.group < thread.product_group - latest; }));
}

// Checks the operands of this thread's warp when a product begins and when it has ended: meanwhile they may be read at any time. The first
// lane does it for all: for the race check it must be the lane that will report them free.
void check_operands(const Product& p) {
  if (self->lane() != 0) return;
  const auto check = [&](int, int, const Pack<bfloat16>* pack) {
    if (!self->processor->in_shared(pack, 16)) self->processor->fail(text(p.site) + ": an operand is not in shared memory");
    if (!self->processor->fenced(pack)) self->processor->fail(text(p.site) + ": an operand was written without fence_async(), or is on its way");
    observe_read(pack, 16);
  };
  Operand{p.a, p.a_by_side}.each_pack(self->rank / warp_size % 4 * 16, 16, check);
  Operand{p.b, p.b_by_side}.each_pack(0, p.columns, check);
}

}  // namespace

void begin_product(float* d, int columns, uint64_t a, bool a_by_side, uint64_t b, bool b_by_side, Site site) {
  if (!self->sums_fenced) self->processor->fail(text(site) + ": no warpgroup_fence() before the first product of a group");
  if (a >> 62 != 1 || b >> 62 != 1) self->processor->fail(text(site) + ": an operand does not come from operand()");
  self->products.push_back({d, columns, a, b, a_by_side, b_by_side, self->product_group, site});
  check_operands(self->products.back());
}

void wait_products(int latest, Site site) {
  struct Argument {
    Thread* thread;
    int latest;
  } mine{self, latest};
  const size_t count = due(*self, latest);
  self->processor->collective(
      0xffffffffu, &mine,
      [](void* const* arguments, uint32_t) {
        Thread* lanes[warp_size];
        for (int lane = 0; lane < warp_size; lane++) lanes[lane] = static_cast<Argument*>(arguments[lane])->thread;
        const size_t count = due(*lanes[0], static_cast<Argument*>(arguments[0])->latest);
        for (size_t i = 0; i < count; i++) multiply(lanes, i);
      },
      false, site);
  for (size_t i = 0; i < count; i++) check_operands(self->products[i]);
  self->products.erase(self->products.begin(), self->products.begin() + ptrdiff_t(count));
}

}  // namespace emulated

using emulated::self;

void warpgroup_commit() {
  self->product_group++;
  self->sums_fenced = false;
}

}  // namespace turl
