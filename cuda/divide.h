#pragma once
// Division by a number that is the same for every thread: a multiplication and a shift instead of some twenty instructions; and the
// index arithmetic made of it.

#include <cstdint>

#include "core/host_device.h"
#include "core/shape.h"
#include "cuda/pack.h"

namespace eq::cuda {

// n / divisor for 0 <= n < 2^31 and 1 <= divisor < 2^31 (Granlund and Montgomery 1994, "Division by invariant integers using
// multiplication").
class Divisor {
 public:
  Divisor() = default;
  EQ_HOST_DEVICE explicit Divisor(int value) : divisor_(uint32_t(value)) {
    while ((uint64_t(1) << shift_) < divisor_) ++shift_;
    magic_ = uint32_t(((uint64_t(1) << 32) * ((uint64_t(1) << shift_) - divisor_)) / divisor_ + 1);
  }
  EQ_HOST_DEVICE int quotient(int n) const {
    return int((uint32_t((uint64_t(uint32_t(n)) * magic_) >> 32) + uint32_t(n)) >> shift_);
  }
  // n becomes the remainder.
  EQ_HOST_DEVICE int divide(int& n) const {
    const int result = quotient(n);
    n -= result * int(divisor_);
    return result;
  }

 private:
  uint32_t divisor_ = 1, magic_ = 1, shift_ = 0;
};

// The same for any n >= 0 and divisor >= 1: a 64-bit division where the numbers are too large for it.
class Divider {
 public:
  Divider() = default;
  explicit Divider(int64_t divisor) : divisor_(divisor), small_(divisor > 0 && divisor < kLimit ? int(divisor) : 1) {}

  EQ_HOST_DEVICE int64_t divisor() const { return divisor_; }
  EQ_HOST_DEVICE int64_t quotient(int64_t n) const { return n < kLimit && divisor_ < kLimit ? small_.quotient(int(n)) : n / divisor_; }
  // n becomes n / divisor; the remainder is returned.
  EQ_HOST_DEVICE int64_t split(int64_t& n) const {
    const int64_t whole = quotient(n), rest = n - whole * divisor_;
    n = whole;
    return rest;
  }

 private:
  static constexpr int64_t kLimit = int64_t{1} << 31;
  int64_t divisor_ = 1;
  Divisor small_;
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
    EQ_UNROLL(1)
    for (int axis = rank - 1; axis > 0; --axis) from += extent[axis].split(i) * step[axis];
    return from + i * step[0];
  }
};

}  // namespace eq::cuda
