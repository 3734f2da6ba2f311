// Runs a kernel's grid on the CPU: every CUDA thread is a fiber, the blocks are dealt out to OS threads ("processors"), and a
// processor runs its blocks one after another. A thread runs until it waits at a barrier or with its warp.
// TURL_EMULATED_ORDER = forward (default), reverse or shuffled is the order in which waiting threads go on.
#pragma once
#include <cstdint>
#include <string>
#include <vector>
#include "emulated/fiber.h"

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace turl::emulated {

constexpr int warp_size = 32, max_threads = 1024;
constexpr size_t max_static_shared = 48 << 10, max_shared = 227 << 10;

// Where in a kernel a thread waits.
struct Site {
  const char* primitive;
  const char* file;
  int line;
  bool operator==(const Site&) const = default;
};
std::string text(Site site);
#define TURL_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

enum class State : uint8_t { ready, barrier, warp, condition, returned };

struct Processor;

// An asynchronous copy that has not happened yet (async.cpp); zeros where there is no source.
struct Copy {
  char* to;
  const char* from;
  size_t bytes;
  const void* barrier;  // of a bulk copy
  int group;            // of a thread's own copy
};

// A product of a warpgroup that has not happened yet (warpgroup.cpp): this thread's sums, and the descriptors of the operands.
struct Product {
  float* d;
  int columns;
  uint64_t a, b;
  bool a_by_side, b_by_side;
  int group;
  Site site;
};

struct Thread : Fiber {
  dim3 index;
  int rank = 0;  // within the block
  Processor* processor = nullptr;
  State state = State::ready;
  Site site{};                // where it waits
  uint32_t mask = 0;          // of the collective it waits in
  void* argument = nullptr;   // of that collective
  const void* awaited = nullptr;  // the object whose condition it waits for
  int collectives = 0;            // passed so far
  std::vector<Copy> copies;       // its own, under way
  int group = 0;                  // the group that the next copy belongs to
  std::vector<Product> products;  // of its warpgroup, under way
  int product_group = 0;          // the group that the next product belongs to
  bool sums_fenced = false;       // whether warpgroup_fence() came before the next product
  bool begun = false;             // whether its kernel called begin_kernel()
  int64_t fences = 0;             // calls of fence_async() so far, and blocks begun
  int lane() const { return rank % warp_size; }
};

// The running CUDA thread.
extern __thread Thread* self __attribute__((tls_model("initial-exec")));

struct Barrier {
  int generation = 0;
  char order[2];  // what the race check sees: threads of two successive generations are told apart
  std::vector<Thread*> waiting;
};

struct Launch {
  dim3 grid, block;
  size_t shared_bytes = 0;
  void (*body)(void*) = nullptr;
  void* argument = nullptr;
};

struct Processor {
  Processor();
  ~Processor();
  Processor(const Processor&) = delete;

  // Runs blocks first, first + step, ...
  void run(const Launch& launch, int64_t first, int64_t step);

  // Called by the running thread.
  void* static_shared(const void* key, size_t bytes, size_t alignment);
  void barrier(Site site);  // of all threads of the block
  // Every lane of `mask` brings an argument; the last to arrive calls body(arguments by lane, mask) for all of them.
  // `orders`: what the lanes wrote before is visible to them after (__syncwarp; a shuffle does not promise it).
  void collective(uint32_t mask, void* argument, void (*body)(void* const*, uint32_t), bool orders, Site site);
  // Waits until wake(awaited) is called.
  void wait(const void* awaited, Site site);
  void wake(const void* awaited);
  bool awaited(const void* object) const;  // whether a thread waits for it
  bool in_shared(const void* p, size_t bytes) const;
  // What copy_async writes to shared memory is seen by products of a warpgroup only after its thread's next fence_async().
  void copied(const void* pack);
  bool fenced(const void* pack) const;
  [[noreturn]] void fail(const std::string& what);

  dim3 block_index;
  const Launch* launch = nullptr;
  char* dynamic_shared() const { return arena_; }
  std::vector<Copy> pending;  // bulk copies under way

 private:
  void run_block();
  void thread_main();
  static void entry();
  void switch_to_next();
  void make_ready(std::vector<Thread*>& threads);
  std::string deadlock() const;
  void begin_shared();

  struct Variable {
    const void* key;
    char* data;
    size_t bytes;
  };
  Fiber home_;
  std::vector<Thread> threads_;
  int prepared_ = 0, count_ = 0, running_ = 0;
  std::vector<Thread*> ready_;  // a ring of max_threads
  std::vector<Thread*> woken_;  // those about to become ready
  size_t head_ = 0, tail_ = 0;
  Barrier barrier_;
  uint32_t arrived_[max_threads / warp_size];  // lanes that wait in a collective, by warp
  char warp_order_[max_threads / warp_size][2];
  std::vector<Variable> variables_;
  struct Written {
    int thread = 0;
    int64_t fences = -1;  // of that thread, then
  };
  std::vector<Written> written_;  // by pack of 16 bytes of the shared memory
  char* arena_ = nullptr;
  size_t static_begin_ = 0, static_used_ = 0;
  std::string error_;
  uint64_t random_ = 1;
  char start_ = 0, end_ = 0;
};

// Runs the grid on up to `threads` OS threads; throws std::runtime_error for a bad configuration or a failed kernel.
void run_grid(const Launch& launch, int threads);

}  // namespace turl::emulated
