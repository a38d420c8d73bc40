#pragma once
// The length of the machine's vector registers. The compiler's vector extension makes longer vectors of any length, but what it does with
// them is slow: comparisons and selections are taken apart into single elements (GCC 12), and values that live through a loop go through
// memory.

#include <cstddef>

namespace eq::cpu {

#if defined(__AVX512F__)
inline constexpr size_t kRegisterBytes = 64;
#elif defined(__AVX__)
inline constexpr size_t kRegisterBytes = 32;
#else
inline constexpr size_t kRegisterBytes = 16;
#endif

}  // namespace eq::cpu
