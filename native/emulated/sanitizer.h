// What the sanitizers are told: which memory is out of bounds (AddressSanitizer) and which synchronisation orders what
// (ThreadSanitizer). Without a sanitizer every function here is empty.
#pragma once
#include <cstddef>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(TURL_RACE_CHECK)
#include <sanitizer/tsan_interface.h>
extern "C" {
void __tsan_read_range(void*, unsigned long);
void __tsan_write_range(void*, unsigned long);
void AnnotateIgnoreReadsBegin(const char*, int);
void AnnotateIgnoreReadsEnd(const char*, int);
void AnnotateIgnoreWritesBegin(const char*, int);
void AnnotateIgnoreWritesEnd(const char*, int);
}
#endif

namespace turl::emulated {

inline void poison(void* begin, size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(begin, bytes);
#endif
}
inline void unpoison(void* begin, size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(begin, bytes);
#endif
}

// What happened before publish(object) in one thread is ordered before what follows observe(object) in another.
inline void publish(void* object) {
#if defined(TURL_RACE_CHECK)
  __tsan_release(object);
#endif
}
inline void observe(void* object) {
#if defined(TURL_RACE_CHECK)
  __tsan_acquire(object);
#endif
}

// Tells the race check that an emulated instruction reads or writes shared memory.
inline void observe_read(const void* begin, size_t bytes) {
#if defined(TURL_RACE_CHECK)
  __tsan_read_range(const_cast<void*>(begin), bytes);
#endif
}
inline void observe_write(void* begin, size_t bytes) {
#if defined(TURL_RACE_CHECK)
  __tsan_write_range(begin, bytes);
#endif
}

// While it lives, the race check ignores accesses: they are the emulator's own.
struct Unobserved {
#if defined(TURL_RACE_CHECK)
  Unobserved() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~Unobserved() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
#else
  Unobserved() {}
#endif
};

}  // namespace turl::emulated
