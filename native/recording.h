// Work done again without JavaScript (src/tensor/recording.ts, docs/decisions/0010-recorded-steps.md): kernel calls kept with their
// arguments, and one block of memory for all that they compute in between.
#pragma once
#include <tuple>
#include <type_traits>
#include "addon.h"

namespace turl {

// An argument as a call has it: get() is what the kernel receives, at each replay; keep() copies what lives only as long as the call;
// moved() takes over where a recording has put its blocks, by number, null where one stays.
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
// An array; `block` is its block of the recording that notes the call, or -1.
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
  char* scratch = nullptr;  // of a replay: what the kernel takes for itself, as much as it took when it was noted
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

// While a recording notes, memory comes from the device's pool as ever; it only remembers which calls lie between the birth and the
// death of each block. Before the first replay all blocks that were born and died, those that a kernel took for itself too, are given
// places in one new block, where those whose lives do not meet may overlap: a replay asks for no memory, which a CUDA graph could not
// wait for. Blocks that live on stay where they are, and belong to the recording from then on.
class Recording {
 public:
  explicit Recording(Device& device) : device(device) {}
  ~Recording();
  Recording(const Recording&) = delete;

  void note(std::unique_ptr<Call> call);
  // A block of the pool was taken for a tensor: its number here.
  int32_t born(void* data, size_t bytes);
  // The tensor is gone.
  void died(int32_t block);
  // Puts the blocks in their places; false when there is no memory for that. Nothing is noted from then on.
  bool plan();
  bool planned() const { return memory_ != nullptr; }

  // A replay gives the device so many calls at a time, each with a graph of its own: the first run while the next are prepared.
  static constexpr size_t calls_of_graph = 64;
  struct Section {
    std::vector<std::unique_ptr<Call>> calls;
    std::vector<std::unique_ptr<Graph>> graphs;
  };
  Device& device;
  std::vector<Section> sections;
  std::vector<std::shared_ptr<void>> numbers;  // keeps those alive that replays read

 private:
  static constexpr int64_t lives_on = INT64_MAX;
  struct Block {
    void* data;
    size_t bytes;
    int64_t birth, death;  // numbers of the first call that could use it and of the first that can not
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
