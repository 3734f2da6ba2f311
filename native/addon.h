// How the addon keeps devices and buffers. A handle is a number: the buffer's slot in the low 24 bits, its generation above.
#pragma once
#include <map>
#include <memory>
#include <vector>
#include "backend.h"

namespace turl {

// Memory of one device: freed blocks are kept by size class and handed out again. `live` counts bytes in use by buffers and
// running kernels, `cached` those kept for reuse. A pool of a pool takes its blocks there, and returns them when it goes.
class Pool {
 public:
  explicit Pool(Backend& backend) : backend_(backend) {}
  explicit Pool(std::shared_ptr<Pool> parent) : backend_(parent->backend_), parent_(std::move(parent)) {}
  ~Pool() {
    if (parent_) trim();
  }
  void* take(size_t bytes);  // nullptr when the limit or the device's memory is reached
  void give(void* data, size_t bytes);
  void trim();  // returns the cached blocks to where they came from
  size_t class_size(size_t bytes) const;

  int64_t live = 0, peak = 0, cached = 0, limit = 0;  // limit 0: none
  int64_t allocations = 0, shortages = 0;             // taken from the system; times that cached blocks had to go for others

 private:
  void* take_new(size_t size);
  Backend& backend_;
  std::shared_ptr<Pool> parent_;
  std::map<size_t, std::vector<void*>> free_;
};

struct Recording;

struct Device {
  std::string name;
  std::unique_ptr<Backend> backend;
  std::shared_ptr<Pool> pool;
  Recording* recording = nullptr;                 // the one that notes what is called now
  std::vector<std::pair<void*, size_t>> scratch;  // blocks of the running kernel
  char *replay_scratch = nullptr, *replay_end = nullptr;  // while a recording is replayed: what is left of its block
  int64_t scratch_peak = 0, launches = 0;
};

struct Buffer {
  void* data = nullptr;
  int64_t size = 0;  // elements
  DType dtype = DType::float32;
  Device* device = nullptr;
  std::shared_ptr<Pool> pool;  // its memory's
  uint32_t generation = 0;
  bool live = false;
};

// Slots are reused; a handle of a freed buffer is recognised by its generation.
class BufferTable {
 public:
  double add(Device* device, std::shared_ptr<Pool> pool, void* data, int64_t size, DType dtype);
  Buffer& get(double handle);  // throws for a freed or foreign handle
  void remove(double handle);

 private:
  std::vector<Buffer> slots_;
  std::vector<uint32_t> empty_;
};

// Opens `library` (a file beside the addon) and its backend; throws with the reason.
std::unique_ptr<Backend> open_backend(const std::string& library);

}  // namespace turl
