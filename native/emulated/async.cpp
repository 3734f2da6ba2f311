#include "cuda/tensor_map.h"
#include "emulated/sanitizer.h"

namespace turl {
namespace emulated {

void check_shared(const void* p, size_t bytes, Site site) {
  if (reinterpret_cast<uintptr_t>(p) % 16 != 0) self->processor->fail(text(site) + ": the address is no multiple of 16 bytes");
  if (!self->processor->in_shared(p, bytes)) self->processor->fail(text(site) + ": the address is not in shared memory");
}

namespace {

// An address that is not read may be anything: computed beyond an operand, it may even lie in shared memory by chance.
void check_global(const void* p, bool read, Site site) {
  if (reinterpret_cast<uintptr_t>(p) % 16 != 0) self->processor->fail(text(site) + ": the address is no multiple of 16 bytes");
  if (read && self->processor->in_shared(p, 1)) self->processor->fail(text(site) + ": the source is in shared memory");
}

void perform(const Copy& copy) {
  if (copy.from) std::memcpy(copy.to, copy.from, copy.bytes);
  else std::memset(copy.to, 0, copy.bytes);
  self->processor->copied(copy);
}

// What the emulator keeps in the eight bytes of an mbarrier.
struct Phase {
  int32_t bytes;                 // still to come in this phase
  uint32_t expected : 11;        // arrivals in each phase
  uint32_t missing : 11;         // arrivals still to come in this phase
  uint32_t parity : 1, magic : 9;  // parity of the phase under way; whether it was initialised
};
constexpr uint32_t magic = 0x155;

Phase phase_of(const Mbarrier& barrier, Site site) {
  auto p = std::bit_cast<Phase>(__atomic_load_n(&barrier.state, __ATOMIC_RELAXED));
  if (p.magic != magic) self->processor->fail(text(site) + ": the mbarrier was not initialised");
  return p;
}
void store(Mbarrier& barrier, Phase p) { __atomic_store_n(&barrier.state, std::bit_cast<uint64_t>(p), __ATOMIC_RELAXED); }

// For the race check: whoever arrives at a barrier publishes this address, whoever has waited observes it. There is one for each parity.
char* seen(Mbarrier& barrier, uint32_t parity) { return reinterpret_cast<char*>(&barrier) + 4 * parity; }

// Completes the phase if all arrivals and all bytes are there. The pending copies happen now.
void settle(Mbarrier& barrier, Site site) {
  Phase p = phase_of(barrier, site);
  if (p.missing > 0) return;
  auto& pending = self->processor->pending;
  int64_t coming = 0;
  for (const Copy& c : pending)
    if (c.barrier == &barrier) coming += int64_t(c.bytes);
  if (coming > p.bytes) self->processor->fail(text(site) + ": more bytes are copied than the mbarrier expects");
  if (coming < p.bytes) return;
  observe(seen(barrier, p.parity));
  std::erase_if(pending, [&](const Copy& c) {
    if (c.barrier == &barrier) perform(c);
    return c.barrier == &barrier;
  });
  publish(seen(barrier, p.parity));
  store(barrier, {0, p.expected, p.expected, p.parity ^ 1u, magic});
  self->processor->wake(&barrier);
}

void count_arrival(Mbarrier& barrier, int bytes, Site site) {
  Phase p = phase_of(barrier, site);
  if (p.missing == 0) self->processor->fail(text(site) + ": more arrivals than the mbarrier was initialised for");
  p.missing--;
  p.bytes += bytes;
  store(barrier, p);
  publish(seen(barrier, p.parity));
  if (p.missing == 0 && (p.bytes == 0 || self->processor->awaited(&barrier))) settle(barrier, site);
}

// Called when a bulk copy has joined those that are pending. For the race check it may write from now on.
void begin_copy(void* to, size_t bytes, Mbarrier& barrier, Site site) {
  const auto& unfenced = self->processor->new_mbarriers;
  if (std::find(unfenced.begin(), unfenced.end(), &barrier) != unfenced.end())
    self->processor->fail(text(site) + ": no fence_mbarrier_init() since the mbarrier was initialised");
  observe_write(to, bytes);
  self->processor->copying(to, bytes);
  publish(seen(barrier, phase_of(barrier, site).parity));
  if (self->processor->awaited(&barrier)) settle(barrier, site);
}

// Checks what the driver and the copy engine demand (CUDA driver API, cuTensorMapEncodeTiled).
TensorMap map_of_boxes(const bfloat16* x, const int64_t (&sizes)[4], const int (&box)[4]) {
  if (sizes[0] % 8 != 0 || reinterpret_cast<uintptr_t>(x) % 16 != 0)
    throw std::runtime_error("tensor_map: rows and address must be multiples of 16 bytes");
  TensorMap map{x, {}, {}};
  for (int i = 0; i < 4; i++) {
    if (sizes[i] < 1) throw std::runtime_error("tensor_map: the tensor is empty");
    if (box[i] < 1 || box[i] > 256) throw std::runtime_error("tensor_map: a box has 1 to 256 elements in each dimension");
    map.sizes[i] = sizes[i], map.box[i] = box[i];
  }
  return map;
}

void copy_box(Pack<bfloat16>* to, const TensorMap& map, const int (&first)[4], Mbarrier& barrier, Site site) {
  const int rows = map.box[1] * map.box[2] * map.box[3];
  check_shared(to, size_t(rows) * 128, site);
  if (shared_address(to) % 1024 != 0) self->processor->fail(text(site) + ": the address is no multiple of 1024 bytes");
  {
    Unobserved guard;
    for (int row = 0; row < rows; row++)
      for (int place = 0; place < 8; place++) {
        const int64_t i[4] = {first[0] + place * 8, first[1] + row % map.box[1], first[2] + row / map.box[1] % map.box[2],
                              first[3] + row / map.box[1] / map.box[2]};
        const bfloat16* from = map.x;
        int64_t stride = 1;
        for (int d = 0; d < 4; stride *= map.sizes[d++]) {
          if (i[d] < 0 || i[d] >= map.sizes[d]) from = nullptr;
          if (from) from += i[d] * stride;
        }
        char* const pack = reinterpret_cast<char*>(to + row * 8 + (place ^ row % 8));
        self->processor->pending.push_back({pack, reinterpret_cast<const char*>(from), 16, &barrier, 0});
      }
  }
  begin_copy(to, size_t(rows) * 128, barrier, site);
}

}  // namespace

void wait_groups(int latest) {
  std::erase_if(self->copies, [&](const Copy& c) {
    bool due = c.group < self->group - latest;
    if (due) perform(c);
    return due;
  });
}

}  // namespace emulated

using emulated::self;

void copy_async(void* shared, const void* global, bool inside, const char* file, int line) {
  emulated::Site site{"copy_async", file, line};
  emulated::check_shared(shared, 16, site);
  emulated::check_global(global, inside, site);
  emulated::observe_write(shared, 16);  // for the race check: from now on it may
  self->processor->copying(shared, 16);
  self->copies.push_back({static_cast<char*>(shared), inside ? static_cast<const char*>(global) : nullptr, 16, nullptr, self->group});
}
void commit_copies() { self->group++; }
void fence_async() { self->fences++, self->processor->stores_fenced = true; }
void fence_mbarrier_init() { self->processor->new_mbarriers.clear(); }

void init_mbarrier(Mbarrier& barrier, int arrivals, const char* file, int line) {
  if (!self->processor->in_shared(&barrier, sizeof(barrier))) self->processor->fail("init_mbarrier: the mbarrier is not in shared memory");
  if (arrivals < 1 || arrivals > 1024) self->processor->fail("init_mbarrier: expected 1 to 1024 arrivals");
  emulated::store(barrier, {0, uint32_t(arrivals), uint32_t(arrivals), 0, emulated::magic});
  self->processor->new_mbarriers.push_back(&barrier);
}
void arrive(Mbarrier& barrier, const char* file, int line) {
  emulated::count_arrival(barrier, 0, {"arrive", file, line});
  self->processor->yield();  // those that waited may go on before this thread does what it should have done first
}
void expect_bytes(Mbarrier& barrier, int bytes, const char* file, int line) {
  emulated::count_arrival(barrier, bytes, {"expect_bytes", file, line});
}
void wait_mbarrier(Mbarrier& barrier, int phase, const char* file, int line) {
  emulated::Site site{"wait_mbarrier", file, line};
  while (emulated::phase_of(barrier, site).parity == uint32_t(phase)) {
    emulated::settle(barrier, site);
    if (emulated::phase_of(barrier, site).parity != uint32_t(phase)) break;
    self->processor->wait(&barrier, site);
  }
  emulated::observe(emulated::seen(barrier, uint32_t(phase)));
}
TensorMap tensor_map(const bfloat16* x, const int64_t (&sizes)[3], int rows) {
  return emulated::map_of_boxes(x, {sizes[0], sizes[1], sizes[2], 1}, {64, rows == 1 ? 64 : 1, rows == 2 ? 64 : 1, 1});
}
TensorMap image_map(const bfloat16* x, const int64_t (&sizes)[4], int columns, int lines) {
  return emulated::map_of_boxes(x, sizes, {64, columns, lines, 1});
}
void copy_block(Pack<bfloat16>* to, const TensorMap& map, int i0, int i1, int i2, Mbarrier& barrier, const char* file, int line) {
  emulated::copy_box(to, map, {i0, i1, i2, 0}, barrier, {"copy_block", file, line});
}
void copy_lines(Pack<bfloat16>* to, const TensorMap& map, int channel, int column, int first_line, int image, Mbarrier& barrier,
                const char* file, int line) {
  emulated::copy_box(to, map, {channel, column, first_line, image}, barrier, {"copy_lines", file, line});
}
void copy_bulk(void* shared, const void* global, int bytes, Mbarrier& barrier, const char* file, int line) {
  emulated::Site site{"copy_bulk", file, line};
  emulated::check_shared(shared, size_t(bytes), site);
  emulated::check_global(global, true, site);
  if (bytes % 16 != 0) self->processor->fail(emulated::text(site) + ": the size is no multiple of 16 bytes");
  {
    emulated::Unobserved guard;
    self->processor->pending.push_back({static_cast<char*>(shared), static_cast<const char*>(global), size_t(bytes), &barrier, 0});
  }
  emulated::begin_copy(shared, size_t(bytes), barrier, site);
}

}  // namespace turl
