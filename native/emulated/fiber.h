// A fiber: a stack, and the place where its code was interrupted. A switch takes some nanoseconds: the registers that a call preserves are
// pushed on the old stack and popped from the new one (x86-64; other processors use ucontext). The sanitizers are told of every switch.
#pragma once
#include <cstddef>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace turl::emulated {

struct Fiber {
  char* stack = nullptr;  // lowest address
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's
  void* race_fiber = nullptr;  // ThreadSanitizer's
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif
};

// Turns the running OS thread into a fiber, to come back to.
void adopt_thread(Fiber& fiber);
// Makes the fiber begin with entry(), which never returns. Called again, it abandons what the fiber was doing.
void prepare(Fiber& fiber, void (*entry)());
// entry() must call this first.
void arrive_first(Fiber& fiber);
void switch_fiber(Fiber& from, Fiber& to);

// Stacks with a guard page below each, from one mapping; they live as long as the process.
char* map_stacks(int count, size_t bytes_each);

}  // namespace turl::emulated
