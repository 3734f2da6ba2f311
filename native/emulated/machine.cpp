#include "emulated/machine.h"
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>
#include "emulated/sanitizer.h"

namespace turl::emulated {

__thread Thread* self __attribute__((tls_model("initial-exec")));

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(TURL_RACE_CHECK)
constexpr size_t stack_bytes = 256 << 10;
#else
constexpr size_t stack_bytes = 64 << 10;
#endif
constexpr size_t red_zone = 256;  // between shared variables, poisoned for AddressSanitizer

enum class Order { forward, reverse, shuffled };
Order order() {
  static const Order chosen = [] {
    const char* name = std::getenv("TURL_EMULATED_ORDER");
    if (!name || !std::strcmp(name, "forward")) return Order::forward;
    if (!std::strcmp(name, "reverse")) return Order::reverse;
    if (!std::strcmp(name, "shuffled")) return Order::shuffled;
    throw std::runtime_error(std::string("TURL_EMULATED_ORDER: expected forward, reverse or shuffled, got ") + name);
  }();
  return chosen;
}

std::string text(dim3 i) {
  return "(" + std::to_string(i.x) + ", " + std::to_string(i.y) + ", " + std::to_string(i.z) + ")";
}
dim3 index_in(dim3 size, int64_t i) {
  return {unsigned(i % size.x), unsigned(i / size.x % size.y), unsigned(i / size.x / size.y)};
}
int64_t volume(dim3 d) { return int64_t(d.x) * d.y * d.z; }

}  // namespace

std::string text(Site s) {
  const char* name = std::strrchr(s.file, '/');
  return std::string(s.primitive) + " (" + (name ? name + 1 : s.file) + ":" + std::to_string(s.line) + ")";
}

Processor::Processor() : threads_(max_threads), ready_(max_threads) {
  size_t bytes = max_shared + max_static_shared + 1024;
  arena_ = static_cast<char*>(std::aligned_alloc(1024, (bytes + 1023) / 1024 * 1024));
  // Memory is reserved here, so that nothing is allocated while CUDA threads wait and wake.
  woken_.reserve(max_threads);
  barrier_.waiting.reserve(max_threads);
  variables_.reserve(max_static_shared / red_zone);
  written_.resize(bytes / 16);
}
Processor::~Processor() { std::free(arena_); }

void Processor::run(const Launch& launch, int64_t first, int64_t step) {
  adopt_thread(home_);
  this->launch = &launch;
  error_.clear();
  count_ = int(volume(launch.block));
  if (count_ > prepared_) {
    char* stacks = map_stacks(count_ - prepared_, stack_bytes);
    for (int i = prepared_; i < count_; i++) {
      Thread& t = threads_[size_t(i)];
      t.rank = i, t.processor = this;
      t.stack = stacks + size_t(i - prepared_) * stack_bytes, t.stack_bytes = stack_bytes;
      prepare(t, entry);
    }
    prepared_ = count_;
  }
  for (int i = 0; i < count_; i++) {
    Thread& t = threads_[size_t(i)];
    t.index = index_in(launch.block, i), t.group = 0;
    t.copies.clear(), t.products.clear();
  }
  int64_t blocks = volume(launch.grid);
  for (int64_t i = first; i < blocks; i += step) {
    block_index = index_in(launch.grid, order() == Order::forward ? i : blocks - 1 - i);
    random_ = uint64_t(i) * 2 + 1;
    run_block();
    if (error_.empty()) continue;
    for (int t = 0; t < count_; t++) prepare(threads_[size_t(t)], entry);  // abandon what they were doing
    throw std::runtime_error(error_);
  }
}

void Processor::run_block() {
  begin_shared();
  pending.clear(), new_mbarriers.clear();
  stores_fenced = false;
  barrier_.waiting.clear(), barrier_.generation = 0;
  std::fill(std::begin(arrived_), std::end(arrived_), 0u);
  head_ = tail_ = 0;
  for (int i = 0; i < count_; i++) woken_.push_back(&threads_[size_t(i)]);
  if (order() == Order::reverse) std::reverse(woken_.begin(), woken_.end());
  running_ = count_;
  make_ready(woken_);
  publish(&start_);
  Thread* next = ready_[head_++ % max_threads];
  self = next;
  switch_fiber(home_, *next);
  self = nullptr;
  observe(&end_);
  if (error_.empty() && !pending.empty()) error_ = "block " + text(block_index) + " ends before its bulk copies are done";
  if (error_.empty()) check_registers();
}

// Where threads take registers, all must have given or taken some, and no more than a multiprocessor has: a GPU would wait forever.
void Processor::check_registers() {
  int64_t changed = 0, all = 0;
  for (int i = 0; i < count_; i++) changed += threads_[size_t(i)].registers > 0, all += threads_[size_t(i)].registers;
  if (changed > 0 && (changed < count_ || all > 64 << 10))
    error_ = "block " + text(block_index) + ": " + std::to_string(changed) + " of " + std::to_string(count_) +
             " threads go on with " + std::to_string(all) + " registers, a multiprocessor has 65536";
}

void Processor::entry() {
  arrive_first(*self);
  self->processor->thread_main();
}

// A fiber runs the CUDA thread of its rank in every block. After the last statement of a block it waits here for the next one.
void Processor::thread_main() {
  Thread& me = *self;
  for (;;) {
    observe(&start_);
    me.fences++;
    me.begun = false, me.registers = 0;
    launch->body(launch->argument);
    if (!me.begun) fail("returns without begin_kernel()");
    if (!me.copies.empty()) fail("returns before its asynchronous copies are done");
    if (!me.products.empty()) fail("returns before its products are done");
    publish(&end_);
    me.state = State::returned;
    running_--;
    switch_to_next();
  }
}

void Processor::make_ready(std::vector<Thread*>& threads) {
  if (order() == Order::shuffled)
    for (size_t i = threads.size(); i > 1; i--) {
      random_ = random_ * 6364136223846793005u + 1442695040888963407u;
      std::swap(threads[i - 1], threads[(random_ >> 33) % i]);
    }
  for (Thread* t : threads) {
    t->state = State::ready;
    ready_[tail_++ % max_threads] = t;
  }
  threads.clear();
}

void Processor::switch_to_next() {
  Thread* me = self;
  if (error_.empty() && head_ == tail_ && running_ > 0) error_ = deadlock();
  if (!error_.empty() || running_ == 0) {
    switch_fiber(*me, home_);
  } else {
    Thread* next = ready_[head_++ % max_threads];
    if (next == me) return;
    self = next;
    switch_fiber(*me, *next);
  }
  // The thread that switched back to this one has set self.
}

void Processor::fail(const std::string& what) {
  error_ = "block " + text(block_index) + ", thread " + text(self->index) + ": " + what;
  switch_fiber(*self, home_);
  __builtin_unreachable();
}

std::string Processor::deadlock() const {
  std::string report = "deadlock in block " + text(block_index) + ":";
  std::vector<Site> seen;
  for (int i = 0; i < count_; i++) {
    const Thread& t = threads_[size_t(i)];
    if (t.state == State::returned || std::find(seen.begin(), seen.end(), t.site) != seen.end()) continue;
    int64_t alike = std::count_if(threads_.begin(), threads_.begin() + count_,
                                  [&](const Thread& o) { return o.state != State::returned && o.site == t.site; });
    report += (seen.empty() ? " " : ", ") + std::to_string(alike) + " threads wait at " + text(t.site) + ", the first is " +
              text(t.index);
    seen.push_back(t.site);
  }
  return report + "; " + std::to_string(count_ - running_) + " of " + std::to_string(count_) + " threads have returned";
}

void Processor::barrier(Site site) {
  Barrier& b = barrier_;
  // __syncthreads() must be the same statement for all.
  if (!b.waiting.empty() && !(b.waiting[0]->site == site))
    fail("waits at " + text(site) + ", another thread of its block at " + text(b.waiting[0]->site));
  char* seen = &b.order[b.generation & 1];
  publish(seen);
  b.waiting.push_back(self);
  self->state = State::barrier, self->site = site;
  if (int(b.waiting.size()) == count_) {
    b.generation++;
    make_ready(b.waiting);
  }
  switch_to_next();
  observe(seen);
}

void Processor::collective(uint32_t mask, void* argument, void (*body)(void* const*, uint32_t), bool orders, Site site) {
  Thread& me = *self;
  int warp = me.rank / warp_size, first = warp * warp_size, lanes = std::min(warp_size, count_ - first);
  if (!(mask >> me.lane() & 1)) fail("is not in the mask of its own " + text(site));
  void* arguments[warp_size] = {};
  me.mask = mask, me.argument = argument, me.site = site, me.state = State::warp;
  arrived_[warp] |= 1u << me.lane();
  for (int lane = 0; lane < warp_size; lane++) {
    if (!(mask >> lane & 1)) continue;
    if (lane >= lanes) fail(text(site) + " names lane " + std::to_string(lane) + ", which the block does not have");
    Thread& other = threads_[size_t(first + lane)];
    if (other.state == State::returned) fail(text(site) + " names lane " + std::to_string(lane) + ", which has returned");
    if (other.state == State::warp && (other.mask != mask || !(other.site == site)))
      fail("lanes disagree: lane " + std::to_string(me.lane()) + " is at " + text(site) + ", lane " + std::to_string(lane) +
           " at " + text(other.site) + (other.mask == mask ? "" : " with another mask"));
    arguments[lane] = other.argument;
  }
  char* seen = &warp_order_[warp][me.collectives++ & 1];
  if (orders) publish(seen);
  if ((arrived_[warp] & mask) == mask) {
    arrived_[warp] &= ~mask;
    {
      Unobserved guard;
      if (body) body(arguments, mask);
    }
    for (int lane = 0; lane < lanes; lane++)
      if (mask >> lane & 1) woken_.push_back(&threads_[size_t(first + lane)]);
    if (order() == Order::reverse) std::reverse(woken_.begin(), woken_.end());
    make_ready(woken_);
  }
  switch_to_next();
  if (orders) observe(seen);
}

void Processor::wait(const void* awaited, Site site) {
  self->state = State::condition, self->site = site, self->awaited = awaited;
  switch_to_next();
}

void Processor::wake(const void* awaited) {
  for (int i = 0; i < count_; i++) {
    Thread& t = threads_[size_t(i)];
    if (t.state == State::condition && t.awaited == awaited) woken_.push_back(&t);
  }
  make_ready(woken_);
}

bool Processor::awaited(const void* object) const {
  return std::any_of(threads_.begin(), threads_.begin() + count_,
                     [&](const Thread& t) { return t.state == State::condition && t.awaited == object; });
}

void Processor::yield() {
  woken_.push_back(self);
  make_ready(woken_);
  switch_to_next();
}

bool Processor::in_shared(const void* p, size_t bytes) const {
  const char* begin = static_cast<const char*>(p);
  if (begin >= arena_ && begin + bytes <= arena_ + launch->shared_bytes) return true;
  return std::any_of(variables_.begin(), variables_.end(),
                     [&](const Variable& v) { return begin >= v.data && begin + bytes <= v.data + v.bytes; });
}

void Processor::copying(const void* to, size_t bytes) {
  std::fill_n(written_.begin() + (static_cast<const char*>(to) - arena_) / 16, bytes / 16, Written{0, under_way});
}
void Processor::copied(const Copy& copy) {
  const Written by = copy.barrier ? Written{0, -1} : Written{self->rank, self->fences};
  std::fill_n(written_.begin() + (copy.to - arena_) / 16, copy.bytes / 16, by);
}
bool Processor::fenced(const void* pack) const {
  const Written& w = written_[size_t(static_cast<const char*>(pack) - arena_) / 16];
  return w.thread < 0 ? stores_fenced : threads_[size_t(w.thread)].fences > w.fences;
}

// Shared memory starts as NaN (all bits set) in every block, so that what is read before it is written shows.
void Processor::begin_shared() {
  size_t dynamic = launch->shared_bytes, all = max_shared + max_static_shared + 1024;
  unpoison(arena_, all);
  variables_.clear();
  static_used_ = 0;
  static_begin_ = (dynamic + red_zone) / 128 * 128;
  std::memset(arena_, 0xff, dynamic);
  std::fill_n(written_.begin(), dynamic / 16, Written{});
  poison(arena_ + dynamic, all - dynamic);
}

void* Processor::static_shared(const void* key, size_t bytes, size_t alignment) {
  for (const Variable& v : variables_)
    if (v.key == key) return v.data;
  Unobserved guard;
  size_t offset = (static_used_ + alignment - 1) / alignment * alignment;
  if (offset + bytes > max_static_shared) fail("static shared memory is over 48 KiB");
  if (launch->shared_bytes > 0 && offset + bytes > (32 << 10)) fail("static shared memory beside dynamic is over 32 KiB");
  if (offset + bytes + launch->shared_bytes > max_shared) fail("shared memory is over 227 KiB");
  static_used_ = offset + bytes;
  size_t zones = variables_.size() * red_zone;  // zones do not count as shared memory of the block
  char* data = arena_ + (static_begin_ + offset + zones + 127) / 128 * 128;
  unpoison(data, bytes);
  std::memset(data, 0xff, bytes);
  variables_.push_back({key, data, bytes});
  return data;
}

void run_grid(const Launch& launch, int threads) {
  static std::mutex running;  // one grid at a time, even if several threads use the device
  std::lock_guard one(running);
  static std::vector<std::unique_ptr<Processor>> processors;
  int64_t blocks = volume(launch.grid);
#if defined(TURL_RACE_CHECK)
  constexpr int64_t worth = 1;  // races between blocks can only be seen if several processors run them
#else
  constexpr int64_t worth = 4096;  // with fewer CUDA threads it does not pay to start OS threads
#endif
  int64_t wanted = blocks * volume(launch.block) < worth ? 1 : std::min<int64_t>(threads, blocks);
  while (int64_t(processors.size()) < wanted) processors.push_back(std::make_unique<Processor>());
  std::exception_ptr error;
  std::mutex mutex;
  auto work = [&](int64_t i) {
    try {
      processors[size_t(i)]->run(launch, i, wanted);
    } catch (...) {
      std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
    }
  };
  std::vector<std::thread> helpers;
  for (int64_t i = 1; i < wanted; i++) helpers.emplace_back(work, i);
  work(0);
  for (std::thread& helper : helpers) helper.join();
  if (error) std::rethrow_exception(error);
}

}  // namespace turl::emulated
