// Runs a kernel's grid on the CPU: every CUDA thread is a fiber, blocks are distributed over OS threads ("processors"), and a processor runs
// its blocks one after another. A CUDA thread runs until it has to wait: at a barrier, for its warp, or for an mbarrier.
// TURL_EMULATED_ORDER = forward (default), reverse or shuffled: the order in which waiting threads go on.
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

// A place in a kernel: where a thread waits, or what an error is about.
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

// An asynchronous copy that has not happened yet (async.cpp). Without a source it writes zeros.
struct Copy {
  char* to;
  const char* from;
  size_t bytes;
  const void* barrier;  // for a bulk copy: its mbarrier
  int group;            // for a thread's own copy: its group
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
  Site site{};                    // where it waits
  uint32_t mask = 0;              // of the collective in which it waits
  void* argument = nullptr;       // of that collective
  const void* awaited = nullptr;  // the object that must wake it
  int collectives = 0;            // how many it has passed
  std::vector<Copy> copies;       // its own copies that are under way
  int group = 0;                  // the group that the next copy belongs to
  std::vector<Product> products;  // products of its warpgroup that are under way
  int product_group = 0;          // the group that the next product belongs to
  bool sums_fenced = false;       // whether warpgroup_fence() came before the next product
  int registers = 0;              // that it has given or taken to go on with; 0: it has not
  bool begun = false;             // whether its kernel called begin_kernel()
  int64_t fences = 0;             // calls of fence_async() so far, plus blocks begun
  int lane() const { return rank % warp_size; }
};

// The running CUDA thread.
extern __thread Thread* self __attribute__((tls_model("initial-exec")));

struct Barrier {
  int generation = 0;
  char order[2];  // addresses by which the race check sees what the barrier orders; two, to tell successive generations apart
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
  // Every lane of `mask` brings an argument; the last one to arrive calls body(arguments by lane, mask) for all of them. `orders`: what a lane
  // wrote before is visible to the others afterwards (true of __syncwarp; a shuffle does not promise it).
  void collective(uint32_t mask, void* argument, void (*body)(void* const*, uint32_t), bool orders, Site site);
  // Waits until wake(awaited) is called.
  void wait(const void* awaited, Site site);
  void wake(const void* awaited);
  bool awaited(const void* object) const;  // whether a thread waits for it
  void yield();                            // lets the threads that are ready go on first
  bool in_shared(const void* p, size_t bytes) const;
  // copying(), copied(): a copy to shared memory is under way, or has written there. fenced(): whether wgmma may read this pack: nothing is on
  // its way there, and its copier has called fence_async() since, or, if it was stored, any thread has (which one stored it is not known).
  void copying(const void* to, size_t bytes);
  void copied(const Copy& copy);
  bool fenced(const void* pack) const;
  [[noreturn]] void fail(const std::string& what);

  dim3 block_index;
  const Launch* launch = nullptr;
  char* dynamic_shared() const { return arena_; }
  std::vector<Copy> pending;               // bulk copies that are under way
  std::vector<const void*> new_mbarriers;  // initialised, but not yet fenced for the copy engine
  bool stores_fenced = false;              // whether a thread of this block has called fence_async()

 private:
  void run_block();
  void thread_main();
  static void entry();
  // Not inlined: a fiber may go on in another thread of the system in the next launch, and where the address of `self` is kept in a
  // register (on ARM) that would be the one of the thread before.
  [[gnu::noinline]] void switch_to_next();
  void make_ready(std::vector<Thread*>& threads);
  std::string deadlock() const;
  void check_registers();
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
  std::vector<Thread*> woken_;  // threads that are about to become ready
  size_t head_ = 0, tail_ = 0;
  Barrier barrier_;
  uint32_t arrived_[max_threads / warp_size];  // lanes that wait in a collective, by warp
  char warp_order_[max_threads / warp_size][2];
  std::vector<Variable> variables_;
  static constexpr int64_t under_way = INT64_MAX;
  struct Written {
    int thread = -1;      // the copier; -1: stored, or not written yet
    int64_t fences = -1;  // its count when it wrote; -1: the copy engine wrote, which needs no fence; under_way: it has not written yet
  };
  std::vector<Written> written_;  // for each 16 bytes of shared memory
  char* arena_ = nullptr;
  size_t static_begin_ = 0, static_used_ = 0;
  std::string error_;
  uint64_t random_ = 1;
  char start_ = 0, end_ = 0;
};

// Runs the grid on up to `threads` OS threads; throws std::runtime_error for a bad configuration or a failed kernel.
void run_grid(const Launch& launch, int threads);

}  // namespace turl::emulated
