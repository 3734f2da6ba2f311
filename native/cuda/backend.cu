// The CUDA backend: memory, copies and one stream of the first GPU.
#include "backend.h"
#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>
#include "cuda/capability.h"
#include "cuda/device.h"
#include "table.h"

namespace turl {
namespace {

struct CudaGraph final : Graph {
  cudaGraphExec_t runs = nullptr;
  ~CudaGraph() override { cudaGraphExecDestroy(runs); }
};

// Pinned memory through which arrays go to the GPU. Copied directly, large pageable arrays went at some 4 GB/s on an H200's host, and only when
// all work before was done. A slot is free again when the copy from it is done; slots are taken in turn, so that a copy seldom waits.
class Staging {
 public:
  static constexpr size_t slot_bytes = size_t(512) << 10;

  ~Staging() {
    for (cudaEvent_t event : free_) cudaEventDestroy(event);
    cudaFreeHost(memory_);
  }

  // Returns when `host` may be reused.
  void write(void* device, const void* host, size_t bytes, cudaStream_t stream) {
    if (!memory_) open();
    for (size_t done = 0; done < bytes; done += all_bytes) {
      const size_t pieces = ceil_div(std::min(bytes - done, all_bytes), slot_bytes);
      std::atomic<size_t> next{0};
      std::exception_ptr error;
      std::mutex mutex;
      const auto work = [&] {
        try {
          for (size_t i; (i = next.fetch_add(1)) < pieces;) {
            const size_t at = done + i * slot_bytes, size = std::min(slot_bytes, bytes - at), slot = (first_ + i) % slots;
            char* const pinned = memory_ + slot * slot_bytes;
            check_cuda(cudaEventSynchronize(free_[slot]), "waiting for a copy to the GPU");
            std::memcpy(pinned, static_cast<const char*>(host) + at, size);
            check_cuda(cudaMemcpyAsync(static_cast<char*>(device) + at, pinned, size, cudaMemcpyHostToDevice, stream), "copying to the GPU");
            check_cuda(cudaEventRecord(free_[slot], stream), "copying to the GPU");
          }
        } catch (...) {
          std::lock_guard lock(mutex);
          error = std::current_exception();
        }
      };
      std::vector<std::thread> others;
      try {
        for (size_t i = 1; i < std::min<size_t>(4, pieces / 4); i++) others.emplace_back(work);
      } catch (const std::system_error&) {  // the system has no more threads
      }
      work();
      for (std::thread& other : others) other.join();
      first_ = (first_ + pieces) % slots;
      if (error) std::rethrow_exception(error);
    }
  }

 private:
  static constexpr size_t slots = 64, all_bytes = slots * slot_bytes;

  void open() {
    check_cuda(cudaMallocHost(reinterpret_cast<void**>(&memory_), all_bytes), "allocating pinned memory");
    for (cudaEvent_t& event : free_) check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creating an event");
  }

  char* memory_ = nullptr;
  size_t first_ = 0;  // the slot that is next
  cudaEvent_t free_[slots] = {};
};

class CudaBackend final : public Backend, public Context {
 public:
  CudaBackend() {
    int devices = 0;
    cudaError_t error = cudaGetDeviceCount(&devices);
    if (error == cudaErrorInsufficientDriver)
      throw std::runtime_error("no NVIDIA driver, or one too old for CUDA 13");
    if (error == cudaErrorNoDevice || (error == cudaSuccess && devices == 0))
      throw std::runtime_error("no NVIDIA GPU");
    check_cuda(error, "looking for GPUs");
    check_cuda(cudaGetDeviceProperties(&properties_, 0), "reading the GPU's properties");
    if (properties_.major < 8)
      throw std::runtime_error(std::string("the GPU ") + properties_.name + " is too old: compute capability 8.0 is needed, it has " +
                               version());
    check_cuda(cudaSetDevice(0), "opening the GPU");
    check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "creating a stream");
    stream = stream_;
    capability = usable_capability(properties_.major * 10 + properties_.minor);
    not_timed();  // so that a mistake in the variable is reported at once
    multiprocessors = properties_.multiProcessorCount;
    shared_memory = properties_.sharedMemPerBlockOptin;
    kernels = &kernel_table();
  }
  ~CudaBackend() override { cudaStreamDestroy(stream_); }

  void* allocate(size_t bytes) override {
    void* data = nullptr;
    cudaError_t error = cudaMalloc(&data, bytes);
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();  // the failed allocation is reported by the nullptr, not by the next launch
      return nullptr;
    }
    check_cuda(error, "allocating GPU memory");
    return data;
  }
  void release(void* data, size_t) override { check_cuda(cudaFree(data), "freeing GPU memory"); }
  // Returns when the host array may be reused. An asynchronous copy of pageable memory would not promise that.
  void write(void* device, const void* host, size_t bytes) override { staging_.write(device, host, bytes, stream_); }
  void read(void* host, const void* device, size_t bytes) override {
    check_cuda(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream_), "copying from the GPU");
    synchronize();
  }
  void synchronize() override { check_cuda(cudaStreamSynchronize(stream_), "waiting for the GPU"); }
  int64_t memory_total() override { return memory().second; }
  int64_t memory_available() override { return memory().first; }
  std::string describe() override {
    return std::string(properties_.name) + ", compute capability " + version() + ", " +
           std::to_string(properties_.multiProcessorCount) + " multiprocessors, " +
           std::to_string(properties_.totalGlobalMem >> 20) + " MiB";
  }
  void set_threads(int) override {}
  // The work is captured each time, which launches nothing, and the graph of the last time is updated with the arguments that differ.
  void again(std::unique_ptr<Graph>& graph, const std::function<void()>& work) override {
    cudaGraph_t captured = nullptr;
    check_cuda(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed), "capturing a graph");
    try {
      work();
    } catch (...) {
      if (cudaStreamEndCapture(stream_, &captured) == cudaSuccess) cudaGraphDestroy(captured);
      cudaGetLastError();
      throw;
    }
    check_cuda(cudaStreamEndCapture(stream_, &captured), "capturing a graph");
    const std::unique_ptr<CUgraph_st, cudaError_t (*)(cudaGraph_t)> owned(captured, cudaGraphDestroy);
    if (graph) {
      cudaGraphExecUpdateResultInfo result;
      if (cudaGraphExecUpdate(static_cast<CudaGraph&>(*graph).runs, captured, &result) != cudaSuccess) {
        cudaGetLastError();
        synchronize();
        graph.reset();
      }
    }
    if (!graph) {
      auto made = std::make_unique<CudaGraph>();
      check_cuda(cudaGraphInstantiate(&made->runs, captured, 0), "making a graph");
      graph = std::move(made);
    }
    check_cuda(cudaGraphLaunch(static_cast<CudaGraph&>(*graph).runs, stream_), "launching a graph");
  }
  Context& context() override { return *this; }
  // The pool may reuse a block as soon as the call returns: since there is only one stream, later work waits for this kernel's.
  void* scratch(size_t bytes) override { return Backend::scratch(scratch_owner, bytes); }
  void parallel(int64_t, void (*)(void*, int64_t), void*) override { throw std::logic_error("parallel() is for CPU kernels"); }

 private:
  std::string version() const { return std::to_string(properties_.major) + "." + std::to_string(properties_.minor); }
  static std::pair<int64_t, int64_t> memory() {
    size_t available = 0, total = 0;
    check_cuda(cudaMemGetInfo(&available, &total), "reading the GPU's memory");
    return {int64_t(available), int64_t(total)};
  }
  cudaDeviceProp properties_{};
  cudaStream_t stream_ = nullptr;
  Staging staging_;
};

}  // namespace
}  // namespace turl

TURL_EXPORT_BACKEND(int abi) {
  if (abi != turl::backend_abi) throw std::runtime_error("the CUDA library was built for another version of turl");
  return new turl::CudaBackend();
}
