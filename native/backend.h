// A backend is one device type in one shared library: memory, copies, a context and the kernel table. The libraries are
// turl_cpu_baseline, turl_cpu_avx2, turl_cpu_avx512, turl_cuda and turl_emulated; each exports turl_backend().
#pragma once
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include "kernels.h"

namespace turl {

constexpr int backend_abi = 5;

constexpr int most_threads = 1024;

// The number of threads that TURL_THREADS asks for, 0 if it is not set.
inline int requested_threads() {
  const char* const named = std::getenv("TURL_THREADS");
  if (!named || !*named) return 0;
  char* end = nullptr;
  const long threads = std::strtol(named, &end, 10);
  if (*end || threads < 1 || threads > most_threads)
    throw std::runtime_error("TURL_THREADS: expected 1 to " + std::to_string(most_threads) + " threads, got " + named);
  return int(threads);
}

// What a device keeps of work that is replayed: on CUDA an executable graph (docs/decisions/0010-recorded-steps.md).
struct Graph {
  virtual ~Graph() = default;
};

struct Backend {
  virtual ~Backend() = default;
  virtual void* allocate(size_t bytes) = 0;  // returns nullptr when there is no memory; aligned to 64 bytes or more
  virtual void release(void* data, size_t bytes) = 0;
  virtual void write(void* device, const void* host, size_t bytes) = 0;
  virtual void read(void* host, const void* device, size_t bytes) = 0;  // waits for all work that was started before
  virtual void synchronize() = 0;
  virtual int64_t memory_total() = 0;      // bytes this device has
  virtual int64_t memory_available() = 0;  // bytes it could still give out
  virtual std::string describe() = 0;      // one line: the device's name and what matters of it
  virtual void set_threads(int threads) = 0;
  // Calls `work` to replay it. With the same `graph`, `work` always launches the same kernels, but numbers among their arguments may
  // differ. `graph` is null the first time.
  virtual void again(std::unique_ptr<Graph>& graph, const std::function<void()>& work) {
    (void)graph;
    work();
  }
  // The pool behind scratch(); the core sets it before the first kernel call.
  void* (*scratch)(void* owner, size_t bytes) = nullptr;
  void* scratch_owner = nullptr;
  virtual Context& context() = 0;
  bool exact = false;        // give every buffer a block of its own, of its exact size, so that a sanitizer sees its bounds
  bool matrix_units = true;  // whether kernels may use instructions that multiply matrices of bfloat16
  const KernelTable* kernels = nullptr;  // a missing kernel is a null entry, and calling it is an error (src/tensor/device.ts)
};

}  // namespace turl

// Opens the backend; throws std::runtime_error with the reason when the device cannot be used here.
using turl_backend_function = turl::Backend* (*)(int abi);
#define TURL_EXPORT_BACKEND extern "C" __attribute__((visibility("default"))) turl::Backend* turl_backend
