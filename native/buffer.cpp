// Device memory: the pool and the table of buffers.
#include "recording.h"

namespace turl {

// Eight sizes for each power of two: at most 12.5 % is wasted, and a block can be reused for one of nearly the same size. Sizes are at
// most 16 MiB apart, so that gigabytes of prototypes waste little.
size_t Pool::class_size(size_t bytes) const {
  if (backend_.exact) return bytes;
  if (bytes <= 256) return 256;
  size_t step = size_t(1) << (63 - __builtin_clzll(bytes - 1));
  step = std::min(step / 8, size_t(16) << 20);
  return (bytes + step - 1) / step * step;
}

Pool::~Pool() {
  try {
    trim();
  } catch (const std::exception&) {  // a device that has failed: what made it fail has been told
  }
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
    data = take_new(size);
    if (!data) return nullptr;
  }
  live += int64_t(size);
  peak = std::max(peak, live);
  return data;
}

void Pool::give(void* data, size_t bytes) {
  size_t size = class_size(bytes);
  live -= int64_t(size);
  if (backend_.exact) return backend_.release(data, size);
  free_[size].push_back(data);
  cached += int64_t(size);
}

void* Pool::take_new(size_t size) {
  if (limit && live + cached + int64_t(size) > limit) trim();
  if (limit && live + int64_t(size) > limit) return nullptr;
  void* data = backend_.allocate(size);
  if (!data) {
    trim();
    data = backend_.allocate(size);
    if (!data) return nullptr;
  }
  allocations++;
  return data;
}

void* Pool::take_whole(size_t bytes) {
  trim();
  void* data = take_new(bytes);
  if (!data) return nullptr;
  live += int64_t(bytes);
  peak = std::max(peak, live);
  return data;
}

void Pool::give_whole(void* data, size_t bytes) {
  live -= int64_t(bytes);
  backend_.release(data, bytes);
}

void Pool::trim() {
  backend_.synchronize();
  for (auto& [size, blocks] : free_)
    for (void* block : blocks) backend_.release(block, size);
  free_.clear();
  cached = 0;
}

namespace {
constexpr int slot_bits = 24;
}

double BufferTable::add(Device* device, void* data, int64_t size, DType dtype) {
  if (empty_.empty()) {
    if (slots_.size() == size_t(1) << slot_bits) throw std::runtime_error("too many live tensors");
    empty_.push_back(uint32_t(slots_.size()));
    slots_.emplace_back();
  }
  uint32_t slot = empty_.back();
  empty_.pop_back();
  Buffer& b = slots_[slot];
  b.data = data, b.size = size, b.dtype = dtype, b.device = device, b.live = true;
  b.recording = device->recording, b.block = -1;
  if (b.recording) b.block = b.recording->born(data, size_t(size) * bytes_of(dtype));
  b.generation = b.generation % ((1u << 29) - 1) + 1;  // with the slot it must fit into the 53 bits of a number
  return double(uint64_t(b.generation) << slot_bits | slot);
}

Buffer& BufferTable::get(double handle) {
  uint64_t bits = handle > 0 ? uint64_t(handle) : 0;
  uint64_t slot = bits & ((uint64_t(1) << slot_bits) - 1);
  if (slot >= slots_.size() || !slots_[slot].live || slots_[slot].generation != bits >> slot_bits)
    throw std::runtime_error("a tensor was used after it was freed");
  return slots_[slot];
}

void BufferTable::give(Buffer& b) {
  if (b.recording) b.recording->died(b.block);
  else b.device->pool->give(b.data, size_t(b.size) * bytes_of(b.dtype));
  b.recording.reset();
  b.live = false;
}

BufferTable::~BufferTable() {
  try {
    for (Buffer& b : slots_)
      if (b.live) give(b);
  } catch (const std::exception&) {  // as above
  }
}

void BufferTable::remove(double handle) {
  give(get(handle));
  empty_.push_back(uint32_t(uint64_t(handle) & ((uint64_t(1) << slot_bits) - 1)));
}

}  // namespace turl
