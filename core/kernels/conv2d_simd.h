#pragma once
// Vectors of the machine's own width for the convolution kernels, and the register tile that fits them. (lanes.h has
// fixed 64-byte vectors instead: there results must not depend on the width; here sums never run across lanes, so they
// do not.)

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace eq::cpu::conv {

// A tile of kTileRows x kTileVectors accumulators leaves registers for the vectors they are multiplied with.
#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64, kTileRows = 14;  // 28 of 32 registers
#elif defined(__AVX__)
inline constexpr int kVectorBytes = 32, kTileRows = 6;  // 12 of 16
#else
inline constexpr int kVectorBytes = 16, kTileRows = 6;
#endif
inline constexpr int kTileVectors = 2;
inline constexpr int kOneVectorRows =
    kTileRows <= 6 ? 2 * kTileRows : kTileRows;  // of a tile of one vector: fewer sums than 8 wait for each other

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float Type __attribute__((vector_size(kVectorBytes)));
};
template <>
struct VectorOf<double> {
  typedef double Type __attribute__((vector_size(kVectorBytes)));
};
template <class T>
using Vector = typename VectorOf<T>::Type;
template <class T>
inline constexpr int kLanes = kVectorBytes / int(sizeof(T));
template <class T>
inline constexpr int kBlock = kLanes<T>* kTileVectors;  // channels of one tile

template <class T>
inline Vector<T> load(const T* from) {
  Vector<T> value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <class T>
inline void store(T* to, Vector<T> value) {
  std::memcpy(to, &value, sizeof value);
}

// `pointer`, of which the compiler forgets how it was computed. Otherwise it keeps all addresses of an unrolled loop, the 36 of
// a Winograd square or those of a register tile's pixels, in variables, which have no place in registers: incrementing them
// in memory took a fifth of a transform's time.
template <class T>
inline T* forget(T* pointer) {
  asm("" : "+r"(pointer));
  return pointer;
}

// `count` < kLanes values, by halves (a loop over lanes or a call of memcpy costs several times more).
template <class T>
inline void copy_first(void* to, const void* from, int64_t count) {
  auto* out = static_cast<char*>(to);
  auto* in = static_cast<const char*>(from);
#pragma GCC unroll 8
  for (int half = kLanes<T> / 2; half > 0; half /= 2) {
    if (count & half) {
      std::memcpy(out, in, half * sizeof(T));
      out += half * sizeof(T);
      in += half * sizeof(T);
    }
  }
}

// The first `count` lanes, 0 .. kLanes; the others are zero. By a mask where there are such loads: a vector put together in memory
// is read before what it consists of has been written, and waits for that.
template <class T>
inline Vector<T> load_first(const T* from, int64_t count) {
  if (count == kLanes<T>) return load(from);
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
  if (count == kLanes<T>) return store(to, value);
  copy_first<T>(to, &value, count);
}

namespace detail {
template <class T, int kHigh, int... kLane>
inline Vector<T> interleave(Vector<T> a, Vector<T> b, std::integer_sequence<int, kLane...>) {
  constexpr int kLanesOfT = kLanes<T>;
  return __builtin_shufflevector(a, b, (kHigh * kLanesOfT / 2 + kLane / 2 + (kLane % 2) * kLanesOfT)...);
}
}  // namespace detail

// Transposes a square of kLanes x kLanes values in registers: log2 perfect shuffles.
template <class T>
inline void transpose(Vector<T> (&rows)[kLanes<T>]) {
  constexpr int kHalf = kLanes<T> / 2;
  using Lanes = std::make_integer_sequence<int, kLanes<T>>;
#pragma GCC unroll 4
  for (int stage = 1; stage < kLanes<T>; stage *= 2) {
    Vector<T> next[kLanes<T>];
#pragma GCC unroll 8
    for (int i = 0; i < kHalf; ++i) {
      next[2 * i] = detail::interleave<T, 0>(rows[i], rows[i + kHalf], Lanes());
      next[2 * i + 1] = detail::interleave<T, 1>(rows[i], rows[i + kHalf], Lanes());
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes<T>; ++i) rows[i] = next[i];
  }
}

}  // namespace eq::cpu::conv
