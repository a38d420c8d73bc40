#pragma once
// Vectors of one register for the convolution kernels, and the register tile that fits them. (lanes.h has 64 bytes whatever the register,
// where sums run across lanes: there results would depend on the width.)

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "core/kernels/packs.h"

namespace eq::cpu::conv {

// A tile of kTileRows x kTileVectors accumulators leaves registers for the vectors they are multiplied with.
inline constexpr int kTileRows = kRegisterBytes == 64 ? 14 : 6;  // 28 of 32 registers, or 12 of 16
inline constexpr int kTileVectors = 2;
inline constexpr int kOneVectorRows =
    kTileRows <= 6 ? 2 * kTileRows : kTileRows;  // of a tile of one vector: fewer sums than 8 wait for each other

template <class T>
inline constexpr int kVectorLanes = kWidePack<T>;
template <class T>
using Vector = Pack<T, kVectorLanes<T>>;
template <class T>
inline constexpr int kBlock = kVectorLanes<T>* kTileVectors;  // channels of one tile

template <class T>
inline Vector<T> load(const T* from) {
  return load_pack<Vector<T>>(from);
}

template <class T>
inline void store(T* to, Vector<T> value) {
  store_pack(to, value);
}

// `pointer`, of which the compiler forgets how it was computed. Otherwise it keeps all addresses of an unrolled loop, the 36 of
// a Winograd square or those of a register tile's pixels, in variables, which have no place in registers: incrementing them
// in memory took a fifth of a transform's time.
template <class T>
inline T* forget(T* pointer) {
  asm("" : "+r"(pointer));
  return pointer;
}

// `count` < kVectorLanes values, by halves (a loop over lanes or a call of memcpy costs several times more).
template <class T>
inline void copy_first(void* to, const void* from, int64_t count) {
  auto* out = static_cast<char*>(to);
  auto* in = static_cast<const char*>(from);
#pragma GCC unroll 8
  for (int half = kVectorLanes<T> / 2; half > 0; half /= 2) {
    if (count & half) {
      std::memcpy(out, in, half * sizeof(T));
      out += half * sizeof(T);
      in += half * sizeof(T);
    }
  }
}

// The first `count` lanes, 0 .. kVectorLanes; the others are zero. By a mask where there are such loads: a vector put together in memory
// is read before what it consists of has been written, and waits for that.
template <class T>
inline Vector<T> load_first(const T* from, int64_t count) {
  if (count == kVectorLanes<T>) return load(from);
#if defined(__AVX512F__)
  const auto mask = uint16_t((1u << count) - 1);
  if constexpr (std::is_same_v<T, float>) return _mm512_maskz_loadu_ps(mask, from);
  else return _mm512_maskz_loadu_pd(uint8_t(mask), from);
#elif defined(__AVX2__)
  if constexpr (std::is_same_v<T, float>) {
    return _mm256_maskload_ps(from, _mm256_cmpgt_epi32(_mm256_set1_epi32(int(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)));
  } else {
    return _mm256_maskload_pd(from, _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_setr_epi64x(0, 1, 2, 3)));
  }
#else
  Vector<T> value{};
  copy_first<T>(&value, from, count);
  return value;
#endif
}

template <class T>
inline void store_first(T* to, Vector<T> value, int64_t count) {
  if (count == kVectorLanes<T>) return store(to, value);
  copy_first<T>(to, &value, count);
}

namespace detail {
template <class T, int kHigh, int... kLane>
inline Vector<T> interleave(Vector<T> a, Vector<T> b, std::integer_sequence<int, kLane...>) {
  constexpr int kLanesOfT = kVectorLanes<T>;
  return __builtin_shufflevector(a, b, (kHigh * kLanesOfT / 2 + kLane / 2 + (kLane % 2) * kLanesOfT)...);
}
}  // namespace detail

// Transposes a square of kVectorLanes x kVectorLanes values in registers: log2 perfect shuffles.
template <class T>
inline void transpose(Vector<T> (&rows)[kVectorLanes<T>]) {
  constexpr int kHalf = kVectorLanes<T> / 2;
  using Lanes = std::make_integer_sequence<int, kVectorLanes<T>>;
#pragma GCC unroll 4
  for (int stage = 1; stage < kVectorLanes<T>; stage *= 2) {
    Vector<T> next[kVectorLanes<T>];
#pragma GCC unroll 8
    for (int i = 0; i < kHalf; ++i) {
      next[2 * i] = detail::interleave<T, 0>(rows[i], rows[i + kHalf], Lanes());
      next[2 * i + 1] = detail::interleave<T, 1>(rows[i], rows[i + kHalf], Lanes());
    }
#pragma GCC unroll 16
    for (int i = 0; i < kVectorLanes<T>; ++i) rows[i] = next[i];
  }
}

}  // namespace eq::cpu::conv
