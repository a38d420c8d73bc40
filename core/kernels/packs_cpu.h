#pragma once
// Fixed vectors of several lengths, for kernels that work on the channels of a pixel, which may be few (lanes.h has the one
// length that suits long rows). The compiler's vector extension makes one source of them for every instruction set.
// Included by *_cpu.cpp files only, which are all compiled for the same one.

#include <cstdint>
#include <cstring>
#include <type_traits>
#if defined(__AVX512F__) || defined(__AVX__)
#include <immintrin.h>
#endif

#include "core/kernels/registers.h"

namespace eq::cpu {

template <class T, int N>
struct PackOf {
  typedef T type __attribute__((vector_size(N * sizeof(T))));
};
template <class T, int N>
using Pack = typename PackOf<T, N>::type;

// Elements in a register (core/kernels/registers.h says why no more).
template <class T>
inline constexpr int kWidePack = int(kRegisterBytes / sizeof(T));
// In 16 bytes, for few channels.
template <class T>
inline constexpr int kNarrowPack = int(16 / sizeof(T));

template <class V, class T>
inline V load_pack(const T* from) {
  V value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
template <class V, class T>
inline void store_pack(T* to, V value) {
  std::memcpy(to, &value, sizeof value);
}

// Stores a register past the caches: for large results that nobody reads soon, it saves fetching the lines that are about to be
// overwritten. `to` is aligned to the register's size, and whole lines of 64 bytes are written. Call finish_streaming() before another thread may read.
template <class V, class T>
inline void stream_pack(T* to, V value) {
  static_assert(sizeof value == kRegisterBytes);
#if defined(__AVX512F__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(to), reinterpret_cast<__m512i>(value));
#elif defined(__AVX__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<__m256i>(value));
#else
  store_pack(to, value);
#endif
}
inline void finish_streaming() {
#if defined(__AVX512F__) || defined(__AVX__)
  _mm_sfence();
#endif
}

// Calls fn.operator()<V>() with the narrowest vector, of 16 bytes at least, that holds `channels` elements, at most kWidePack.
template <class T, class Fn>
inline void with_pack(int64_t channels, Fn&& fn) {
  constexpr int kWide = kWidePack<T>, kNarrow = kNarrowPack<T>;
  if constexpr (kNarrow < kWide) {
    if (channels <= kNarrow) return fn.template operator()<Pack<T, kNarrow>>();
    if (channels <= 2 * kNarrow) return fn.template operator()<Pack<T, 2 * kNarrow>>();
  }
  return fn.template operator()<Pack<T, kWide>>();
}

}  // namespace eq::cpu
