#pragma once
// Division by a number that is the same for every thread: a multiplication and a shift instead of some twenty instructions; and the
// index arithmetic made of it.

#include <cstdint>

#include "core/host_device.h"
#include "core/shape.h"

namespace eq::cuda {

// Numerators below 2^31 take the fast way (Granlund and Montgomery 1994, "Division by invariant integers using multiplication"),
// others a 64-bit division. Numerator and divisor are not negative.
class Divider {
 public:
  Divider() = default;
  explicit Divider(int64_t divisor) : divisor_(divisor) {
    while (shift_ < 31 && (int64_t{1} << shift_) < divisor) ++shift_;
    // A divisor above 2^31 gives 0 with any multiplier that does not overflow.
    if (divisor > 0 && divisor <= kLimit) {
      multiplier_ = uint32_t(((uint64_t{1} << shift_) - uint64_t(divisor)) * (uint64_t{1} << 32) / uint64_t(divisor) + 1);
    }
  }

  EQ_HOST_DEVICE int64_t divisor() const { return divisor_; }
  EQ_HOST_DEVICE int64_t quotient(int64_t n) const {
    if (n >= kLimit) return n / divisor_;
    return int64_t((uint32_t((uint64_t(uint32_t(n)) * multiplier_) >> 32) + uint32_t(n)) >> shift_);
  }
  // n becomes n / divisor; the remainder is returned.
  EQ_HOST_DEVICE int64_t split(int64_t& n) const {
    const int64_t whole = quotient(n), rest = n - whole * divisor_;
    n = whole;
    return rest;
  }

 private:
  static constexpr int64_t kLimit = int64_t{1} << 31;
  int64_t divisor_ = 1;
  uint32_t multiplier_ = 1;
  int shift_ = 0;
};

// Element i of a result is element place(i) of an array that is read with other steps.
struct GatherPlan {
  int rank = 0;
  Divider extent[kMaxRank];
  int64_t step[kMaxRank] = {};

  GatherPlan() = default;
  GatherPlan(int rank, const int64_t* extents, const int64_t* steps) : rank(rank) {
    for (int axis = 0; axis < rank; ++axis) extent[axis] = Divider(extents[axis]), step[axis] = steps[axis];
  }
  EQ_HOST_DEVICE int64_t place(int64_t i) const {
    int64_t from = 0;
    for (int axis = rank - 1; axis >= 0; --axis) from += extent[axis].split(i) * step[axis];
    return from;
  }
};

}  // namespace eq::cuda
