// Runs the tests of the device; the last line is "N passed, N failed". usage: turl_device_test [NAME]
#include <utility>
#include "tests/test.h"

namespace turl::test {

std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}
static int failed = 0;
int failures() { return failed; }
void fail(const char* file, int line, const std::string& what) {
  failed++;
  std::printf("%s:%d: %s\n", file, line, what.c_str());
}

#ifdef TURL_EMULATED
void* shared_with_host(size_t bytes) { return std::aligned_alloc(256, (bytes + 255) / 256 * 256); }
void synchronize() {}
#else
void* shared_with_host(size_t bytes) {
  void* data = nullptr;
  check_cuda(cudaMallocManaged(&data, bytes), "allocating memory for a test");
  return data;
}
void synchronize() { check_cuda(cudaDeviceSynchronize(), "waiting for the GPU"); }
#endif

static int races = 0;
int take_race_reports() { return std::exchange(races, 0); }

struct TestContext final : Context {
  void* scratch(size_t bytes) override { return shared_with_host(bytes); }
  void parallel(int64_t, void (*)(void*, int64_t), void*) override {}
};

}  // namespace turl::test

#ifdef TURL_RACE_CHECK
// ThreadSanitizer calls these. The first one must not be instrumented itself.
extern "C" __attribute__((visibility("default"), no_sanitize("thread"))) void __tsan_on_report(void*) { turl::test::races++; }
extern "C" __attribute__((visibility("default"))) const char* __tsan_default_options() {
  return "exitcode=0 suppress_equal_addresses=0 suppress_equal_stacks=0";  // shared memory has the same addresses in every test
}
#endif

int main(int count, char** arguments) {
  using namespace turl::test;
  TestContext context;
  context.threads = 2;
  int run = 0, bad = 0;
  for (const Case& c : cases()) {
    if (count > 1 && std::string(c.name) != arguments[1]) continue;
    int before = failures();
    try {
      c.run(context);
      synchronize();
    } catch (const std::exception& e) {
      fail(c.name, 0, e.what());
    }
    if (int seen = take_race_reports()) fail(c.name, 0, std::to_string(seen) + " races");
    run++;
    if (failures() > before) bad++, std::printf("FAIL %s\n", c.name);
  }
  std::printf("%d passed, %d failed\n", run - bad, bad);
  return bad > 0 || run == 0;
}
