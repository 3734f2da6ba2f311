// Device memory: the pool and the table of buffers.
#include "addon.h"

namespace turl {

// Powers of two in eight steps: at most 12.5 % is wasted, and blocks of nearly equal sizes can stand in for each other. The
// steps end at 16 MiB, so that gigabytes of prototypes waste little.
size_t Pool::class_size(size_t bytes) const {
  if (backend_.exact) return bytes;
  if (bytes <= 256) return 256;
  size_t step = size_t(1) << (63 - __builtin_clzll(bytes - 1));
  step = std::min(step / 8, size_t(16) << 20);
  return (bytes + step - 1) / step * step;
}

void* Pool::take(size_t bytes) {
  size_t size = class_size(bytes);
  auto found = free_.find(size);
  void* data = nullptr;
  if (found != free_.end() && !found->second.empty()) {
    data = found->second.back();
    found->second.pop_back();
    cached -= int64_t(size);
  } else {
    data = parent_ ? parent_->take(size) : take_new(size);
    if (!data) return nullptr;
  }
  live += int64_t(size);
  peak = std::max(peak, live);
  return data;
}

void* Pool::take_new(size_t size) {
  const auto make_room = [&] {
    if (cached > 0) shortages++;
    trim();
  };
  if (limit && live + cached + int64_t(size) > limit) make_room();
  if (limit && live + int64_t(size) > limit) return nullptr;
  void* data = backend_.allocate(size);
  if (!data) {
    make_room();
    data = backend_.allocate(size);
    if (!data) return nullptr;
  }
  allocations++;
  return data;
}

void Pool::give(void* data, size_t bytes) {
  size_t size = class_size(bytes);
  live -= int64_t(size);
  if (backend_.exact && !parent_) return backend_.release(data, size);
  free_[size].push_back(data);
  cached += int64_t(size);
}

void Pool::trim() {
  if (!parent_) backend_.synchronize();
  for (auto& [size, blocks] : free_)
    for (void* block : blocks)
      if (parent_) parent_->give(block, size);
      else backend_.release(block, size);
  free_.clear();
  cached = 0;
}

namespace {
constexpr int slot_bits = 24;
}

double BufferTable::add(Device* device, std::shared_ptr<Pool> pool, void* data, int64_t size, DType dtype) {
  if (empty_.empty()) {
    if (slots_.size() == size_t(1) << slot_bits) throw std::runtime_error("too many live tensors");
    empty_.push_back(uint32_t(slots_.size()));
    slots_.emplace_back();
  }
  uint32_t slot = empty_.back();
  empty_.pop_back();
  Buffer& b = slots_[slot];
  b.data = data, b.size = size, b.dtype = dtype, b.device = device, b.pool = std::move(pool), b.live = true;
  b.generation++;
  return double(uint64_t(b.generation) << slot_bits | slot);
}

Buffer& BufferTable::get(double handle) {
  uint64_t bits = handle > 0 ? uint64_t(handle) : 0;
  uint64_t slot = bits & ((uint64_t(1) << slot_bits) - 1);
  if (slot >= slots_.size() || !slots_[slot].live || slots_[slot].generation != bits >> slot_bits)
    throw std::runtime_error("a tensor was used after it was freed");
  return slots_[slot];
}

void BufferTable::remove(double handle) {
  Buffer& b = get(handle);
  b.live = false;
  b.pool.reset();
  empty_.push_back(uint32_t(uint64_t(handle) & ((uint64_t(1) << slot_bits) - 1)));
}

}  // namespace turl
