#include "emulated/fiber.h"
#include <sys/mman.h>
#include <unistd.h>
#include <cstdint>
#include <pthread.h>
#include <new>
#include "emulated/sanitizer.h"

#if defined(__x86_64__)
// turl_switch_stack(void** old_pointer, void* new_pointer). It ends in a jump, not a return, because the processor predicts
// returns by the calls it saw on this stack.
asm(R"(
.text
.local turl_switch_stack
.type turl_switch_stack, @function
turl_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmp *%rcx
.size turl_switch_stack, .-turl_switch_stack
)");
extern "C" void turl_switch_stack(void** old_pointer, void* new_pointer);
#endif

namespace turl::emulated {

char* map_stacks(int count, size_t bytes_each) {
  void* memory = mmap(nullptr, count * bytes_each, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  char* stacks = static_cast<char*>(memory);
  size_t page = size_t(sysconf(_SC_PAGESIZE));
  for (int i = 0; i < count; i++) mprotect(stacks + i * bytes_each, page, PROT_NONE);
  return stacks;
}

void adopt_thread(Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
  pthread_attr_t attributes;
  void* stack = nullptr;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &stack, &fiber.stack_bytes);
  pthread_attr_destroy(&attributes);
  fiber.stack = static_cast<char*>(stack);
#endif
#if defined(TURL_RACE_CHECK)
  fiber.race_fiber = __tsan_get_current_fiber();
#endif
}

void prepare(Fiber& fiber, void (*entry)()) {
  unpoison(fiber.stack, fiber.stack_bytes);
  fiber.fake_stack = nullptr;
#if defined(TURL_RACE_CHECK)
  if (fiber.race_fiber) __tsan_destroy_fiber(fiber.race_fiber);
  fiber.race_fiber = __tsan_create_fiber(0);
#endif
#if defined(__x86_64__)
  // From below: six registers, the entry, and in place of a return address 8 bytes that leave the stack aligned as a call does.
  uintptr_t top = (reinterpret_cast<uintptr_t>(fiber.stack) + fiber.stack_bytes) / 16 * 16 - 8;
  void** slots = reinterpret_cast<void**>(top) - 7;
  for (int i = 0; i < 8; i++) slots[i] = nullptr;
  slots[6] = reinterpret_cast<void*>(entry);
  fiber.stack_pointer = slots;
#else
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = fiber.stack_bytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, entry, 0);
#endif
}

void arrive_first(Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fiber.fake_stack, nullptr, nullptr);
#endif
}

void switch_fiber(Fiber& from, Fiber& to) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack, to.stack_bytes);
#endif
#if defined(TURL_RACE_CHECK)
  __tsan_switch_to_fiber(to.race_fiber, __tsan_switch_to_fiber_no_sync);
#endif
#if defined(__x86_64__)
  turl_switch_stack(&from.stack_pointer, to.stack_pointer);
#else
  swapcontext(&from.context, &to.context);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

}  // namespace turl::emulated
