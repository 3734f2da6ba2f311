// The CPU backend: huge-page memory and a thread pool. Compiled once per instruction set, with the kernels.
#include "backend.h"
#include <array>
#include <condition_variable>
#include <atomic>
#include <exception>
#include <fstream>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>
#include <sys/mman.h>
#include <unistd.h>
#include "table.h"
#include "cpu/channels.h"
#include "cpu/matrix_units.h"

namespace turl {

// Linux is asked first: on AMD's processors sysconf may add up the caches of several groups of cores, of which a core can use one.
int64_t last_level_cache() {
  std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index3/size");  // "32768K"
  if (int64_t kibibytes = 0; file >> kibibytes) return kibibytes << 10;
#if defined(_SC_LEVEL3_CACHE_SIZE)
  return sysconf(_SC_LEVEL3_CACHE_SIZE);
#else
  return 0;
#endif
}

namespace {

// Threads that wait for a job. They spin for a while before they sleep, since a training step runs some hundred kernels close together.
class ThreadPool {
 public:
  // May get fewer threads than it asks for, if the system has no more.
  explicit ThreadPool(int threads) {
    try {
      for (int i = 1; i < threads; i++) workers_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
    }
  }
  ~ThreadPool() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
      generation_.fetch_add(1);
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
  }
  int size() const { return int(workers_.size()) + 1; }

  void run(int64_t chunks, void (*body)(void*, int64_t), void* argument) {
    if (workers_.empty() || chunks == 1) {
      for (int64_t chunk = 0; chunk < chunks; chunk++) body(argument, chunk);
      return;
    }
    body_ = body, argument_ = argument, chunks_ = chunks, error_ = nullptr;
    next_.store(0, std::memory_order_relaxed);
    busy_.store(int(workers_.size()), std::memory_order_relaxed);
    {
      std::lock_guard lock(mutex_);
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    drain();
    for (int spins = 0; busy_.load(std::memory_order_acquire) != 0; spins++)
      if (spins > patience) std::this_thread::yield();
      else pause();
    if (error_) std::rethrow_exception(error_);
  }

 private:
  static constexpr int patience = 4000;  // spins before a thread yields or sleeps

  static void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  void drain() {
    for (int64_t chunk; (chunk = next_.fetch_add(1, std::memory_order_relaxed)) < chunks_;) {
      try {
        body_(argument_, chunk);
      } catch (...) {
        std::lock_guard lock(mutex_);
        if (!error_) error_ = std::current_exception();
      }
    }
  }
  void work() {
    for (uint64_t seen = 0;;) {
      for (int spins = 0; generation_.load(std::memory_order_acquire) == seen && spins < patience; spins++) pause();
      if (generation_.load(std::memory_order_acquire) == seen) {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return generation_.load() != seen; });
      }
      seen = generation_.load(std::memory_order_acquire);
      if (stopping_) return;
      drain();
      busy_.fetch_sub(1, std::memory_order_release);
    }
  }

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<int64_t> next_{0};
  std::atomic<int> busy_{0};
  bool stopping_ = false;
  void (*body_)(void*, int64_t) = nullptr;
  void* argument_ = nullptr;
  int64_t chunks_ = 0;
  std::exception_ptr error_;
};

int64_t meminfo(const char* key) {
  std::ifstream file("/proc/meminfo");
  std::string name, unit;
  for (int64_t kibibytes; file >> name >> kibibytes; std::getline(file, unit))
    if (name == key) return kibibytes * 1024;
  return 0;
}

// The processor's name. Virtual machines may give one without a number, which several generations share; then family and model are added.
std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  std::string family, model;
  for (std::string line; std::getline(file, line);) {
    const auto value = [&] { return line.substr(line.find(':') + 2); };
    if (line.rfind("cpu family", 0) == 0) family = value();
    else if (line.rfind("model\t", 0) == 0) model = value();
    else if (line.rfind("model name", 0) == 0) {
      const std::string name = value();
      const bool numbered = name.find_first_of("0123456789") != std::string::npos;
      return numbered || family.empty() ? name : name + ", family " + family + " model " + model;
    }
  }
  return "processor";
}

class CpuBackend final : public Backend, public Context {
 public:
  CpuBackend() {
    kernels = &kernel_table();
    matrix_units = turl::matrix_units() != MatrixUnits::none;
    set_threads(requested_threads());
  }

  // Large blocks are mapped on huge pages: first touch is three times faster than with 4 KiB pages.
  void* allocate(size_t bytes) override {
    if (bytes < huge) return std::aligned_alloc(64, (bytes + 63) / 64 * 64);
    void* data = std::aligned_alloc(huge, (bytes + huge - 1) / huge * huge);
    if (data) madvise(data, bytes, MADV_HUGEPAGE);
    return data;
  }
  void release(void* data, size_t) override { std::free(data); }
  void write(void* device, const void* host, size_t bytes) override { std::memcpy(device, host, bytes); }
  void read(void* host, const void* device, size_t bytes) override { std::memcpy(host, device, bytes); }
  void synchronize() override {}
  int64_t memory_total() override { return meminfo("MemTotal:"); }
  int64_t memory_available() override { return meminfo("MemAvailable:"); }
  std::string describe() override {
    const std::string units = std::array{"", ", plain matrix units", ", AMX"}[size_t(turl::matrix_units())];
    return processor() + ", " TURL_ISA + units + ", " + std::to_string(threads) + " threads";
  }
  void set_threads(int wanted) override {
    pool_.reset();
    pool_ = std::make_unique<ThreadPool>(wanted > 0 ? std::min(wanted, most_threads) : int(std::thread::hardware_concurrency()));
    threads = pool_->size();
  }
  Context& context() override { return *this; }

  void* scratch(size_t bytes) override { return Backend::scratch(scratch_owner, bytes); }
  void parallel(int64_t chunks, void (*body)(void*, int64_t), void* argument) override {
    pool_->run(chunks, body, argument);
  }

 private:
  static constexpr size_t huge = size_t(2) << 20;
  std::unique_ptr<ThreadPool> pool_;
};

}  // namespace
}  // namespace turl

TURL_EXPORT_BACKEND(int abi) {
  if (abi != turl::backend_abi) throw std::runtime_error("the CPU library was built for another version of turl");
  return new turl::CpuBackend();
}
