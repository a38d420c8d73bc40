#pragma once
// parallel_for over fixed chunks. The chunks depend on the work alone, never on the number of threads, so that a
// kernel that owns its output per chunk, or sums per chunk and then adds the sums in order, gives the same bits on
// one thread and on many.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

namespace eq {

int num_threads();            // threads that parallel_for uses; at the start default_threads()
void set_num_threads(int n);  // throws UsageError outside 1 .. 1024
int default_threads();        // OMP_NUM_THREADS (of "4,2" the first) where that is 1 .. 1024, else the cores that this process may run on

// Keeps parallel_for serial on this thread while alive (for threads that are themselves workers, such as loaders).
class SerialScope {
 public:
  SerialScope();
  ~SerialScope();
  SerialScope(const SerialScope&) = delete;
};

// Flushes denormal numbers to zero on this thread while alive (they slow arithmetic a hundredfold); before and afterwards the thread
// computes as its owner wants. Operators and the bodies of parallel_for run so, on every thread.
class FlushDenormals {
 public:
  FlushDenormals();
  ~FlushDenormals();
  FlushDenormals(const FlushDenormals&) = delete;

 private:
  unsigned before_;
};

// Calls body(begin, end) for [0, grain), [grain, 2*grain), ... up to count. The order is free. If chunks throw, the
// exception of the lowest one is rethrown here when all that began have ended: the same error for any number of
// threads. Nested calls run serially.
void parallel_for(int64_t count, int64_t grain, const std::function<void(int64_t begin, int64_t end)>& body);

// Sum-like reduction in a fixed order: partial(begin, end) per chunk, then combine(total, part) chunk by chunk.
template <class T, class Partial, class Combine>
T parallel_reduce(int64_t count, int64_t grain, T identity, Partial partial, Combine combine) {
  grain = std::max<int64_t>(1, grain);  // as in parallel_for
  const int64_t chunks = (count + grain - 1) / grain;
  std::vector<T> parts(chunks, identity);
  parallel_for(count, grain, [&](int64_t begin, int64_t end) { parts[begin / grain] = partial(begin, end); });
  T total = identity;
  for (T& part : parts) total = combine(total, part);
  return total;
}

// A grain that makes each chunk worth about `target` units of work where one item costs `cost` units.
inline int64_t grain_for(int64_t cost, int64_t target = 16384) {
  return std::max<int64_t>(1, target / std::max<int64_t>(1, cost));
}

}  // namespace eq
