#pragma once
// Short fixed vectors for the CPU kernels, through the compiler's vector extension: one source for every instruction
// set. Included by *_cpu.cpp files only, which are all compiled for the same instruction set.

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace eq::cpu {

template <class T, int N>
struct LanesOf {
  typedef T type __attribute__((vector_size(N * sizeof(T))));
};
template <class T, int N>
using Lanes = typename LanesOf<T, N>::type;

// Elements in 64 bytes: one AVX-512 register, two AVX2 registers.
template <class T>
inline constexpr int kWideLanes = int(64 / sizeof(T));

template <class V, class T>
inline V load_lanes(const T* from) {
  V value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
template <class V, class T>
inline void store_lanes(T* to, V value) {
  std::memcpy(to, &value, sizeof value);
}

// Calls fn.operator()<V>() with the narrowest vector that holds `channels` elements, at most kWideLanes.
template <class T, class Fn>
inline void with_lanes(int64_t channels, Fn&& fn) {
  constexpr int kWide = kWideLanes<T>;
  if (channels <= kWide / 4) return fn.template operator()<Lanes<T, kWide / 4>>();
  if (channels <= kWide / 2) return fn.template operator()<Lanes<T, kWide / 2>>();
  return fn.template operator()<Lanes<T, kWide>>();
}

}  // namespace eq::cpu
