// A tiny harness for kernels that test the device itself. The same tests run on the emulated device and, built by nvcc, on a GPU.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>
#include "cuda/device.h"

namespace turl::test {

struct Case {
  const char* name;
  void (*run)(Context&);
};
std::vector<Case>& cases();
int failures();
void fail(const char* file, int line, const std::string& what);

struct Register {
  Register(const char* name, void (*run)(Context&)) { cases().push_back({name, run}); }
};

// Memory that both the host and the kernels see.
void* shared_with_host(size_t bytes);
template <class T> struct Array {
  T* data;
  size_t size;
  explicit Array(size_t size, T value = T()) : data(static_cast<T*>(shared_with_host(size * sizeof(T)))), size(size) {
    for (size_t i = 0; i < size; i++) data[i] = value;
  }
  T& operator[](size_t i) { return data[i]; }
};
void synchronize();
// Races that ThreadSanitizer has reported since the last call. Those that no test expects are failures.
int take_race_reports();

// Small integers, exact in bfloat16, whose sums are exact in float32: results must be equal to the last bit.
inline float small(size_t i) { return float((i * 2654435761u >> 7) % 17) - 8.0f; }

}  // namespace turl::test

#define TURL_TEST(name)                                                                  \
  static void name(turl::Context& context);                                              \
  static const turl::test::Register name##_registered(#name, name);                      \
  static void name(turl::Context& context)
#define TURL_EXPECT(condition) \
  if (!(condition)) turl::test::fail(__FILE__, __LINE__, #condition)
#define TURL_EXPECT_THROW(statement, words)                                              \
  try {                                                                                  \
    statement;                                                                           \
    turl::test::fail(__FILE__, __LINE__, "nothing was thrown");                          \
  } catch (const std::runtime_error& e) {                                                \
    if (std::string(e.what()).find(words) == std::string::npos)                          \
      turl::test::fail(__FILE__, __LINE__, std::string("the message was: ") + e.what()); \
  }
