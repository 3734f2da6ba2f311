// How the addon keeps devices and buffers. JavaScript knows a buffer by its handle, a number: the buffer's slot in the low 24 bits, its
// generation above.
#pragma once
#include <map>
#include <memory>
#include <vector>
#include "backend.h"

namespace turl {

// Memory of one device: freed blocks are kept by size class and handed out again. `live` counts bytes in use by buffers,
// recordings and running kernels, `cached` those kept for reuse.
class Pool {
 public:
  explicit Pool(Backend& backend) : backend_(backend) {}
  ~Pool();
  void* take(size_t bytes);  // nullptr when the limit or the device's memory is reached
  void give(void* data, size_t bytes);
  // One large block that is never cached: cached blocks are returned to the system first, and give_whole() returns this one.
  void* take_whole(size_t bytes);
  void give_whole(void* data, size_t bytes);
  void trim();  // returns the cached blocks to the system
  size_t class_size(size_t bytes) const;

  int64_t live = 0, peak = 0, cached = 0, limit = 0;  // limit 0: none
  int64_t allocations = 0;                            // blocks taken from the system so far

 private:
  void* take_new(size_t size);  // from the system
  Backend& backend_;
  std::map<size_t, std::vector<void*>> free_;
};

// Blocks within a recording's memory begin at multiples of 256 bytes, like those of cudaMalloc.
inline constexpr size_t aligned(size_t bytes) { return (bytes + 255) & ~size_t(255); }

class Recording;

struct Device {
  std::string name;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Pool> pool;
  std::shared_ptr<Recording> recording;           // the recording under way: it notes every kernel call
  std::vector<std::pair<void*, size_t>> scratch;  // scratch blocks of the running kernel
  bool replaying = false;
  char *replay_scratch = nullptr, *replay_end = nullptr;  // during a replay: scratch memory that is left for the running kernel
  int64_t scratch_peak = 0, calls = 0;                    // most scratch bytes of one kernel; calls of kernels
};

struct Buffer {
  void* data = nullptr;
  int64_t size = 0;  // elements
  DType dtype = DType::float32;
  Device* device = nullptr;
  std::shared_ptr<Recording> recording;  // the recording under way when this buffer was made
  int32_t block = -1;                    // its number in that recording
  uint32_t generation = 0;
  bool live = false;
};

// Slots are reused; a handle of a freed buffer is recognised by its generation. What is live when a thread of JavaScript ends is freed.
class BufferTable {
 public:
  ~BufferTable();
  double add(Device* device, void* data, int64_t size, DType dtype);
  Buffer& get(double handle);  // throws for a freed or foreign handle
  void remove(double handle);

 private:
  static void give(Buffer& b);
  std::vector<Buffer> slots_;
  std::vector<uint32_t> empty_;
};

// Opens `library` (a file beside the addon) and its backend; throws with the reason.
std::unique_ptr<Backend> open_backend(const std::string& library);

}  // namespace turl
