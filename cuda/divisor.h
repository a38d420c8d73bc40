#pragma once
// Division of n < 2^31 by a number known before the loop: one multiplication and a shift (Granlund and Montgomery, 1994).

#include <cstdint>

#include "core/host_device.h"

namespace eq::cuda {

struct Divisor {
  uint32_t divisor = 1, magic = 1, shift = 0;

  Divisor() = default;
  EQ_HOST_DEVICE explicit Divisor(int value) : divisor(uint32_t(value)) {  // 1 <= value < 2^31
    while ((uint64_t(1) << shift) < divisor) ++shift;
    magic = uint32_t(((uint64_t(1) << 32) * ((uint64_t(1) << shift) - divisor)) / divisor + 1);
  }
  EQ_HOST_DEVICE int quotient(int n) const {
    return int((uint32_t((uint64_t(uint32_t(n)) * magic) >> 32) + uint32_t(n)) >> shift);
  }
  // n becomes the remainder.
  EQ_HOST_DEVICE int divide(int& n) const {
    const int result = quotient(n);
    n -= result * int(divisor);
    return result;
  }
};

}  // namespace eq::cuda
