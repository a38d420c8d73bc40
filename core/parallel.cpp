#include "core/parallel.h"

#include <omp.h>
#include <sched.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include <atomic>
#include <cstdlib>
#include <exception>
#include <mutex>

#include "core/errors.h"

namespace eq {
namespace {

int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

constexpr int kMostThreads = 1024;

std::atomic<int> g_threads{default_threads()};
thread_local int t_serial_depth = 0;

}  // namespace

int num_threads() { return g_threads; }

int default_threads() {
  const char* text = std::getenv("OMP_NUM_THREADS");
  if (text == nullptr) return usable_cores();
  char* end = nullptr;
  const long asked = std::strtol(text, &end, 10);
  return asked >= 1 && asked <= kMostThreads && (*end == '\0' || *end == ',') ? int(asked) : usable_cores();
}

void set_num_threads(int n) {
  if (n < 1 || n > kMostThreads) {
    throw UsageError("the number of threads must be 1 to 1024, not " + std::to_string(n), "set_num_threads (--threads of the command)",
                     "use about as many threads as cores");
  }
  g_threads = n;
}

SerialScope::SerialScope() { ++t_serial_depth; }
SerialScope::~SerialScope() { --t_serial_depth; }

#if defined(__SSE__)
FlushDenormals::FlushDenormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }  // flush-to-zero and denormals-are-zero
FlushDenormals::~FlushDenormals() { _mm_setcsr((_mm_getcsr() & ~0x8040u) | (before_ & 0x8040)); }
#else
FlushDenormals::FlushDenormals() : before_(0) {}
FlushDenormals::~FlushDenormals() = default;
#endif

void parallel_for(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  if (count <= 0) return;
  grain = std::max<int64_t>(1, grain);
  const int64_t chunks = (count + grain - 1) / grain;
  const int threads = int(std::min<int64_t>(num_threads(), chunks));
  auto run = [&](int64_t chunk) { body(chunk * grain, std::min(count, (chunk + 1) * grain)); };
  if (threads == 1 || t_serial_depth > 0) {
    const FlushDenormals flush;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) run(chunk);
    return;
  }
  std::exception_ptr error;
  int64_t error_chunk = chunks;
  std::mutex error_mutex;
#pragma omp parallel num_threads(threads)
  {
    const SerialScope nested_calls_are_serial;
    const FlushDenormals flush;
#pragma omp for schedule(dynamic, 1)
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      try {
        run(chunk);
      } catch (...) {
        std::lock_guard lock(error_mutex);
        if (chunk < error_chunk) {
          error_chunk = chunk;
          error = std::current_exception();
        }
      }
    }
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace eq
