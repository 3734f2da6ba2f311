// Kernel calls that are kept with their arguments, to be replayed without JavaScript, and one block of memory for all temporary results
// between them (src/tensor/recording.ts, docs/decisions/0010-recorded-steps.md).
#pragma once
#include <tuple>
#include <type_traits>
#include "addon.h"

namespace turl {

// An argument of a recorded call. get() is what the kernel receives, at each replay anew; keep() copies what lives only as long as the
// first call; moved() replaces the addresses of blocks that the plan has moved (`places`, by a block's number; null: not moved).
template <class T> struct Argument;
using Places = std::vector<void*>;

// A number, or the place where one is found at each replay.
template <class T> requires std::is_arithmetic_v<T> struct Argument<T> {
  double value;
  const double* place = nullptr;
  T get() const {
    const double number = place ? *place : value;
    if constexpr (std::is_integral_v<T>)
      if (number != double(int64_t(number))) throw std::runtime_error("expected an integer, got " + std::to_string(number));
    return T(number);
  }
  void keep() {}
  void moved(const Places&) {}
};
template <> struct Argument<Ints> {
  Ints value;
  std::vector<int32_t> own;
  Ints get() const { return own.empty() ? value : Ints{own.data(), int64_t(own.size())}; }
  void keep() { own.assign(value.data, value.data + value.size); }
  void moved(const Places&) {}
};
// An array; `block` is its number in the recording under way, or -1 if it was made before.
template <class T> requires std::is_base_of_v<In, T> || std::is_base_of_v<Out, T> struct Argument<T> {
  T value;
  int32_t block;
  const T& get() const { return value; }
  void keep() {}
  void moved(const Places& places) {
    if (block >= 0 && places[size_t(block)]) value.data = places[size_t(block)];
  }
};
template <class T> requires std::is_same_v<T, InList> || std::is_same_v<T, OutList> struct Argument<T> {
  T value;
  std::vector<int32_t> blocks;
  const T& get() const { return value; }
  void keep() {}
  void moved(const Places& places) {
    for (size_t i = 0; i < blocks.size(); i++)
      if (blocks[i] >= 0 && places[size_t(blocks[i])]) value.list[i].data = places[size_t(blocks[i])];
  }
};

struct Call {
  const char* name;
  char* scratch = nullptr;  // the kernel's scratch memory during a replay; it takes as many bytes as it took when it was recorded
  size_t scratch_bytes = 0;
  explicit Call(const char* name) : name(name) {}
  Call(Call&&) = default;
  virtual ~Call() = default;
  virtual void run(Context& context) const = 0;
  virtual void moved(const Places& places) = 0;
};
template <class... A> struct KernelCall final : Call {
  void (*kernel)(Context&, A...);
  std::tuple<Argument<A>...> arguments;
  KernelCall(const char* name, void (*kernel)(Context&, A...), std::tuple<Argument<A>...> arguments)
      : Call(name), kernel(kernel), arguments(std::move(arguments)) {}
  void run(Context& context) const override {
    std::apply([&](const auto&... a) { kernel(context, a.get()...); }, arguments);
  }
  void keep() {
    std::apply([](auto&... a) { (a.keep(), ...); }, arguments);
  }
  void moved(const Places& places) override {
    std::apply([&](auto&... a) { (a.moved(places), ...); }, arguments);
  }
};

// During recording, memory comes from the device's pool as always; the recording only notes which calls lie between the birth and the
// death of each block. Before the first replay, all blocks that died, scratch memory included, get places in one new large block. Blocks
// that are not alive at the same time may overlap there. So a replay allocates nothing: to allocate may mean to wait for the device, which
// is forbidden while a CUDA graph is captured. Blocks that are still alive stay where they are, and belong to the recording from then on.
class Recording {
 public:
  explicit Recording(Device& device) : device(device) {}
  ~Recording();
  Recording(const Recording&) = delete;

  void note(std::unique_ptr<Call> call);
  // A tensor got this block of the pool; returns the block's number in this recording.
  int32_t born(void* data, size_t bytes);
  // The tensor was freed.
  void died(int32_t block);
  // Gives the blocks their places; false when there is not enough memory. From then on nothing can be recorded any more.
  bool plan();
  bool planned() const { return memory_ != nullptr; }

  // A section is replayed so many calls at a time, each part as a graph of its own: one runs while the next is prepared.
  static constexpr size_t calls_of_graph = 64;
  struct Section {
    std::vector<std::unique_ptr<Call>> calls;
    std::vector<std::unique_ptr<Graph>> graphs;
  };
  Device& device;
  std::vector<Section> sections;
  std::vector<std::shared_ptr<void>> numbers;  // keeps alive the JavaScript arrays from which replays read numbers

 private:
  static constexpr int64_t lives_on = INT64_MAX;
  struct Block {
    void* data;
    size_t bytes;
    int64_t birth, death;  // the first call that can use it, and the first one after it that cannot
    size_t offset;
  };
  size_t lay_out();
  struct Scratch {
    Call* call;
    size_t block;
  };
  std::vector<Scratch> scratch_;
  std::vector<Block> blocks_;
  int64_t now_ = 0;
  char* memory_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace turl
