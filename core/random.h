#pragma once
// Counter-based random numbers (Philox4x32-10: philox.h).
// A number is a pure function of (seed, stream, index): no state to save, no order to keep, any thread may draw any.

#include <array>
#include <cstdint>

#include "core/philox.h"

namespace eq {

// A cursor over one stream. Copies continue independently from the same place.
class Random {
 public:
  explicit Random(uint64_t seed, uint64_t stream = 0) : seed_(seed), stream_(stream) {}

  // A generator for a named purpose or an item: the same (seed, stream, tag) always gives the same sequence.
  Random fork(uint64_t tag) const;

  uint32_t next_u32();
  uint64_t next_u64();
  double uniform();                              // [0, 1), 53 bits
  double uniform(double low, double high);       // [low, high)
  int64_t uniform_int(int64_t low, int64_t high);  // [low, high), unbiased; throws UsageError unless low < high
  bool bernoulli(double p) { return uniform() < p; }
  double normal();                               // mean 0, variance 1 (Box-Muller)

  // Goes to the start of block `block` of four 32-bit draws: a uniform() or next_u64() takes half a block, and two calls of normal() one.
  void seek_block(uint64_t block);

  uint64_t seed() const { return seed_; }
  uint64_t stream() const { return stream_; }

 private:
  uint64_t seed_, stream_, block_ = 0;
  std::array<uint32_t, 4> buffer_{};
  int left_ = 0;
  bool has_spare_ = false;
  double spare_ = 0;
};

// Uniform in [0, 1) with 24 bits, for element `index` of a tensor filled in parallel.
float uniform_at(uint64_t seed, uint64_t stream, uint64_t index);

}  // namespace eq
