// The emulated device's backend: memory of the host, and kernels that run as soon as they are launched.
#include "backend.h"
#include <cstdlib>
#include <thread>
#include <unistd.h>
#include "cuda/capability.h"
#include "table.h"

namespace turl {
namespace {

class EmulatedBackend final : public Backend, public Context {
 public:
  EmulatedBackend() {
    kernels = &kernel_table();
#ifdef TURL_SANITIZED
    exact = true;
#endif
    capability = usable_capability(90), not_timed();  // so that mistakes in either variable are reported at once
    multiprocessors = 2;  // few, so that blocks compute several tiles
    if (capability < 90) shared_memory = 163 << 10;  // what a block may have on 8.0
    set_threads(requested_threads());
  }
  void* allocate(size_t bytes) override {
    check_fault();
    void* data = nullptr;
    if (posix_memalign(&data, 256, bytes) != 0) return nullptr;
    if (exact) std::memset(data, 0xff, bytes);  // NaN, to show what no kernel has written
    return data;
  }
  void release(void* data, size_t) override { std::free(data); }
  void write(void* device, const void* host, size_t bytes) override { check_fault(), std::memcpy(device, host, bytes); }
  void read(void* host, const void* device, size_t bytes) override { check_fault(), std::memcpy(host, device, bytes); }
  void synchronize() override {
    check_fault();
    if (capturing_) throw std::logic_error("a CUDA graph cannot wait for the device while it is captured");
  }
  int64_t memory_total() override { return sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE); }
  int64_t memory_available() override { return check_fault(), sysconf(_SC_AVPHYS_PAGES) * sysconf(_SC_PAGESIZE); }
  std::string describe() override { return "the CUDA kernels on the CPU, " + std::to_string(threads) + " threads"; }
  void set_threads(int wanted) override {
    threads = wanted > 0 ? wanted : int(std::max(1u, std::thread::hardware_concurrency()));
  }
  void again(std::unique_ptr<Graph>&, const std::function<void()>& work) override {
    capturing_ = true;
    struct End {
      bool& flag;
      ~End() { flag = false; }
    } end{capturing_};
    work();
  }
  Context& context() override { return *this; }
  void* scratch(size_t bytes) override { return Backend::scratch(scratch_owner, bytes); }
  void parallel(int64_t, void (*)(void*, int64_t), void*) override {
    throw std::logic_error("parallel() is for CPU kernels");
  }

 private:
  // For tests: while TURL_EMULATED_FAULT is set, the device behaves like a broken GPU, of which all calls fail except those that free memory.
  static void check_fault() {
    if (std::getenv("TURL_EMULATED_FAULT")) throw std::runtime_error("TURL_EMULATED_FAULT is set");
  }
  bool capturing_ = false;
};

}  // namespace
}  // namespace turl

TURL_EXPORT_BACKEND(int abi) {
  if (abi != turl::backend_abi) throw std::runtime_error("the emulated library was built for another version of turl");
  return new turl::EmulatedBackend();
}
