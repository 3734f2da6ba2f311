// Work spread over threads. How it is cut into chunks depends on sizes only, never on the number of threads. So results have the same bits
// for any number of threads, as long as each chunk writes its own output.
#pragma once
#include <algorithm>
#include "types.h"

namespace turl {

// f(chunk) for chunk in [0, chunks).
template <class F> void parallel_chunks(Context& context, int64_t chunks, F&& f) {
  if (chunks == 1) return f(int64_t(0));
  if (chunks > 0)
    context.parallel(chunks, [](void* p, int64_t chunk) { (*static_cast<std::remove_reference_t<F>*>(p))(chunk); }, &f);
}

// f(begin, end) over [0, n) in pieces of `grain` items. A piece should take 20 microseconds or more.
template <class F> void parallel_for(Context& context, int64_t n, int64_t grain, F&& f) {
  parallel_chunks(context, (n + grain - 1) / grain,
                  [&](int64_t chunk) { f(chunk * grain, std::min(n, (chunk + 1) * grain)); });
}

// Adds the sums [width] of `count` chunks, in order, into those of the first.
template <class A> void add_chunks(Context& context, A* partial, int64_t count, int64_t width) {
  if (count < 2) return;
  parallel_for(context, width, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t chunk = 1; chunk < count; chunk++)
      for (int64_t i = begin; i < end; i++) partial[i] += partial[chunk * width + i];
  });
}

}  // namespace turl
