// Work done again without JavaScript (src/tensor/recording.ts): the kernel calls of a stretch, kept with their arguments.
#pragma once
#include <functional>
#include "addon.h"

namespace turl {

struct Recording {
  struct Call {
    const char* name;
    std::function<void(Context&)> run;
  };
  struct Section {
    std::vector<Call> calls;
    std::unique_ptr<Graph> graph;
  };

  explicit Recording(Device& device) : device(device), pool(std::make_shared<Pool>(device.pool)) {}
  ~Recording() {
    if (scratch) device.pool->give(scratch, scratch_bytes);
  }

  Device& device;
  // Tensors made meanwhile stay where they are, whatever happens between two replays.
  std::shared_ptr<Pool> pool;
  // What kernels take for themselves at a replay comes from one block, of what the greediest of them took: a replay asks for no new
  // memory, which a CUDA graph could not wait for.
  void* scratch = nullptr;
  size_t scratch_bytes = 0;
  std::vector<Section> sections;
  std::vector<std::shared_ptr<void>> numbers;  // keeps those alive that replays read
};

}  // namespace turl
