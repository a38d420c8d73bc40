#pragma once
// Fixed vectors of several lengths, for kernels that work on the channels of a pixel, which may be few (lanes.h has the one
// length that suits long rows). The compiler's vector extension makes one source of them for every instruction set.
// Included by *_cpu.cpp files only, which are all compiled for the same one.

#include <cstdint>
#include <cstring>
#include <type_traits>
#if defined(__SSE2__)
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
// overwritten. `to` is aligned to the register's size, and whole lines of 64 bytes are written. Call finish_streaming() before another
// thread may read.
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

// Whether to do so with a result of `bytes` that is written in blocks of `width` bytes: if it does not stay in the caches anyway.
inline bool streams_well(const void* to, size_t bytes, size_t width) {
  constexpr size_t kStreamBytes = size_t{16} << 20;
  return bytes >= kStreamBytes && width % 64 == 0 && reinterpret_cast<uintptr_t>(to) % 64 == 0;
}

// One byte for each lane of a vector of integers. (GCC 12 takes a conversion of vectors so far apart to pieces.)
template <class V>
inline V load_bytes(const uint8_t* from) {
  using Element = std::remove_cvref_t<decltype(V{}[0])>;
  constexpr size_t kCount = sizeof(V) / sizeof(Element);
  V value;
#if defined(__AVX512F__)
  if constexpr (kCount == 16) return V(_mm512_maskz_cvtepu8_epi32(0xFFFF, load_pack<__m128i>(from)));  // the plain one warns in GCC 12
#endif
#if defined(__AVX2__)
  if constexpr (kCount == 8 && sizeof(Element) == 4) {
    return V(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
  }
  if constexpr (kCount == 4 && sizeof(Element) == 4) return V(_mm_cvtepu8_epi32(_mm_cvtsi32_si128(load_pack<int32_t>(from))));
#elif defined(__SSE2__)
  if constexpr (kCount == 4 && sizeof(Element) == 4) {
    const __m128i zero = _mm_setzero_si128();
    return V(_mm_unpacklo_epi16(_mm_unpacklo_epi8(_mm_cvtsi32_si128(load_pack<int32_t>(from)), zero), zero));
  }
#endif
  for (size_t lane = 0; lane < kCount; ++lane) value[lane] = from[lane];
  return value;
}

// The lanes hold 0 to 255.
template <class V>
inline void store_bytes(uint8_t* to, V value) {
  using Element = std::remove_cvref_t<decltype(V{}[0])>;
  constexpr size_t kCount = sizeof(V) / sizeof(Element);
#if defined(__AVX512F__)
  if constexpr (kCount == 16) return _mm512_mask_cvtepi32_storeu_epi8(to, 0xFFFF, __m512i(value));
#endif
#if defined(__SSE2__)
  if constexpr (sizeof(Element) == 4 && kCount <= 8) {  // in halves of four
    __m128i part[2] = {};
    std::memcpy(part, &value, sizeof value);
    const __m128i bytes = _mm_packus_epi16(_mm_packs_epi32(part[0], part[1]), part[0]);
    std::memcpy(to, &bytes, kCount);
    return;
  }
#endif
  for (size_t lane = 0; lane < kCount; ++lane) to[lane] = uint8_t(value[lane]);
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
