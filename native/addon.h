// How the addon keeps devices and buffers. A handle is a number: the buffer's slot in the low 24 bits, its generation above.
#pragma once
#include <memory>
#include <unordered_map>
#include <map>
#include <vector>
#include "backend.h"

namespace turl {

// Memory of one device: freed blocks are kept by size class and handed out again. `live` counts bytes in use by buffers,
// `scratch` those in use by the running kernel, `cached` those kept for reuse.
class Pool {
 public:
  explicit Pool(Backend& backend) : backend_(backend) {}
  void* take(size_t bytes);  // nullptr when the limit or the device's memory is reached
  void give(void* data, size_t bytes);
  void trim();  // returns the cached blocks to the system
  size_t class_size(size_t bytes) const;

  int64_t live = 0, peak = 0, cached = 0, limit = 0;  // limit 0: none
  int64_t allocations = 0;                            // taken from the system

 private:
  Backend& backend_;
  std::map<size_t, std::vector<void*>> free_;
};

struct Device {
  std::string name;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Pool> pool;
  std::vector<std::pair<void*, size_t>> scratch;  // blocks of the running kernel
  int64_t scratch_peak = 0, launches = 0;
};

struct Buffer {
  void* data = nullptr;
  int64_t size = 0;  // elements
  DType dtype = DType::float32;
  Device* device = nullptr;
  uint32_t generation = 0;
  bool live = false;
};

// Slots are reused; a handle of a freed buffer is recognised by its generation.
class BufferTable {
 public:
  double add(Device* device, void* data, int64_t size, DType dtype);
  Buffer& get(double handle);  // throws for a freed or foreign handle
  void remove(double handle);

 private:
  std::vector<Buffer> slots_;
  std::vector<uint32_t> empty_;
};

// Opens `library` (a file beside the addon) and its backend; throws with the reason.
std::unique_ptr<Backend> open_backend(const std::string& library);

}  // namespace turl
