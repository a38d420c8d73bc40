#pragma once
// bfloat16: the upper half of a float32. 8 bits of exponent, 8 of precision; rounding to nearest, ties to even.
// A storage type: kernels convert to float32, compute, and round once when they store.

#include <bit>
#include <cstdint>
#include <type_traits>

#include "core/host_device.h"

namespace eq {

struct bfloat16 {
  uint16_t bits;

  bfloat16() = default;
  template <class T>
    requires std::is_arithmetic_v<T>
  EQ_HOST_DEVICE explicit bfloat16(T value) : bits(round(float(value))) {}
  template <class T>
    requires std::is_arithmetic_v<T>
  EQ_HOST_DEVICE explicit operator T() const { return T(std::bit_cast<float>(uint32_t(bits) << 16)); }

 private:
  EQ_HOST_DEVICE static uint16_t round(float value) {
#ifdef __CUDA_ARCH__
    uint16_t bits;  // one instruction instead of six; only the bits of a NaN may differ from the host's
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
#else
    const uint32_t whole = std::bit_cast<uint32_t>(value);
    if ((whole & 0x7fffffffu) > 0x7f800000u) return uint16_t((whole >> 16) | 0x40u);  // NaN stays NaN
    return uint16_t((whole + 0x7fffu + ((whole >> 16) & 1u)) >> 16);
#endif
  }
};
static_assert(sizeof(bfloat16) == 2 && std::is_trivial_v<bfloat16>);

}  // namespace eq
