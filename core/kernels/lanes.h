#pragma once
// Fixed vectors of 64 bytes for CPU kernels that work along a row: 16 floats or 8 doubles. The compiler splits them where
// registers are shorter, so results depend neither on the instruction set's width nor on the length of a loop.

#include <bit>
#include <cstdint>
#include <cstring>
#include <vector>

#include "core/kernels/registers.h"

namespace eq::cpu {

template <class T>
struct LaneTypes;
template <>
struct LaneTypes<float> {
  typedef float Values __attribute__((vector_size(64)));
  typedef int32_t Bits __attribute__((vector_size(64)));
};
template <>
struct LaneTypes<double> {
  typedef double Values __attribute__((vector_size(64)));
  typedef int64_t Bits __attribute__((vector_size(64)));
};
template <class T>
using Lanes = typename LaneTypes<T>::Values;
template <class T>
using LaneBits = typename LaneTypes<T>::Bits;
template <class T>
inline constexpr int64_t kLanes = int64_t(64 / sizeof(T));

template <class T>
inline Lanes<T> broadcast(T value) {
  return Lanes<T>{} + value;
}

template <class T>
inline Lanes<T> load(const T* from) {
  Lanes<T> value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <class T>
inline void store(T* to, Lanes<T> value) {
  std::memcpy(to, &value, sizeof value);
}

// The first `count` (1 .. kLanes) values at `from`, `fill` in the other lanes; reads nothing beyond them.
template <class T>
[[gnu::noinline, gnu::cold]] Lanes<T> load_first(const T* from, int64_t count, T fill) {
  if (count == kLanes<T>) return load(from);
  alignas(64) T buffer[kLanes<T>];
  for (int64_t i = 0; i < kLanes<T>; ++i) buffer[i] = i < count ? from[i] : fill;
  return load(buffer);
}

template <class T>
[[gnu::noinline, gnu::cold]] void store_first(T* to, Lanes<T> value, int64_t count) {
  if (count == kLanes<T>) return store(to, value);
  alignas(64) T buffer[kLanes<T>];
  store(buffer, value);
  for (int64_t i = 0; i < count; ++i) to[i] = buffer[i];
}

// All ones in the first `count` lanes, zero in the others.
template <class T>
inline LaneBits<T> first_lanes(int64_t count) {
  LaneBits<T> mask;
  for (int64_t i = 0; i < kLanes<T>; ++i) mask[i] = i < count ? -1 : 0;
  return mask;
}

// How to walk rows of `width` values, shorter or longer than a vector, vector by vector. Full vectors may reach past a row's
// end as long as they stay below `limit`: what they read there is replaced by `fill`; what they write there must belong to
// a row that the same task writes later.
template <class T>
struct LaneRow {
  explicit LaneRow(int64_t width)
      : vectors((width + kLanes<T> - 1) / kLanes<T>), last(width - (vectors - 1) * kLanes<T>), mask(first_lanes<T>(last)) {}

  Lanes<T> load(const T* row, int64_t v, const T* limit, T fill) const { return load_at(row, v, v + 1 == vectors, limit, fill); }
  Lanes<T> load_at(const T* row, int64_t v, bool is_last, const T* limit, T fill) const {
    row += v * kLanes<T>;
    if (!is_last) return cpu::load(row);
    if (row + kLanes<T> > limit) return load_first(row, last, fill);
    return by_registers<Lanes<T>>([fill](auto m, auto values) { return m ? values : decltype(values){} + fill; }, mask, cpu::load(row));
  }
  void store(T* row, int64_t v, const T* limit, Lanes<T> value) const {
    row += v * kLanes<T>;
    if (v + 1 < vectors || row + kLanes<T> <= limit) return cpu::store(row, value);
    store_first(row, value, last);
  }

  int64_t vectors;   // per row
  int64_t last;      // values in the last vector, 1 .. kLanes
  LaneBits<T> mask;  // of these
};

template <class V>
inline V max_of(V a, V b) {
  return by_registers<V>([](auto x, auto y) { return x > y ? x : y; }, a, b);
}

// All lanes combined in halves: always the same tree, in ever shorter vectors, which cost less.
template <class Combine>
inline float fold_lanes(Lanes<float> v, Combine combine) {
  const auto eight = combine(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7),
                             __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
  const auto four = combine(__builtin_shufflevector(eight, eight, 0, 1, 2, 3), __builtin_shufflevector(eight, eight, 4, 5, 6, 7));
  const auto two = combine(four, __builtin_shufflevector(four, four, 2, 3, 0, 1));
  return combine(two, __builtin_shufflevector(two, two, 1, 0, 3, 2))[0];
}
template <class Combine>
inline double fold_lanes(Lanes<double> v, Combine combine) {
  const auto four = combine(__builtin_shufflevector(v, v, 0, 1, 2, 3), __builtin_shufflevector(v, v, 4, 5, 6, 7));
  const auto two = combine(__builtin_shufflevector(four, four, 0, 1), __builtin_shufflevector(four, four, 2, 3));
  return combine(two, __builtin_shufflevector(two, two, 1, 0))[0];
}

template <class T>
inline T sum_lanes(Lanes<T> v) {
  return fold_lanes(v, [](auto a, auto b) { return a + b; });
}

// NaN lanes may be overlooked.
template <class T>
inline T max_lanes(Lanes<T> v) {
  return fold_lanes(v, [](auto a, auto b) { return max_of(a, b); });
}

namespace detail {
template <class T>
struct FloatFormat;
template <>
struct FloatFormat<float> {
  static constexpr int kMantissa = 23, kBias = 127;
  static constexpr float kRounder = 0x1.8p23f;                           // adding it rounds to an integer
  static constexpr float kLn2High = 0x1.62e4p-1f, kLn2Low = 0x1.7f7d1cp-20f;  // the high part times n is exact
  static constexpr float kLowestExponent = -87.33f;                      // exp below it is no normal number
  static constexpr int kExpTerms = 7, kLogTerms = 6;
};
template <>
struct FloatFormat<double> {
  static constexpr int kMantissa = 52, kBias = 1023;
  static constexpr double kRounder = 0x1.8p52;
  static constexpr double kLn2High = 0x1.62e42fefa38p-1, kLn2Low = 0x1.ef35793c7673p-45;
  static constexpr double kLowestExponent = -708.39;
  static constexpr int kExpTerms = 13, kLogTerms = 11;
};

constexpr double inverse_factorial(int n) {
  double result = 1;
  for (int k = 2; k <= n; ++k) result /= k;
  return result;
}
}  // namespace detail

// exp(x) for x <= 0 to about one rounding; 0 where the result would be denormal; NaN stays NaN.
// x = n*ln2 + r with |r| <= ln2/2, and the Taylor series of exp(r), whose remainder is below a rounding.
template <class T, class V>
inline V exp_of_register(V x) {
  using Bits = decltype(x < x);
  using Format = detail::FloatFormat<T>;
  constexpr T kLog2E = T(1.4426950408889634074);
  const V clamped = x < Format::kLowestExponent ? V{} + Format::kLowestExponent : x;
  const V rounded = clamped * kLog2E + Format::kRounder;
  const V n = rounded - Format::kRounder;
  const V r = (clamped - n * Format::kLn2High) - n * Format::kLn2Low;
  V series = V{} + T(detail::inverse_factorial(Format::kExpTerms));
#pragma GCC unroll 16
  for (int k = Format::kExpTerms - 1; k >= 0; --k) series = series * r + T(detail::inverse_factorial(k));
  const Bits power = (std::bit_cast<Bits>(rounded) + Format::kBias) << Format::kMantissa;
  const V result = series * std::bit_cast<V>(power);
  return x < Format::kLowestExponent ? V{} : result;
}
template <class T>
inline Lanes<T> exp_nonpositive(Lanes<T> x) {
  return by_registers<Lanes<T>>([](auto part) { return exp_of_register<T>(part); }, x);
}

// log(x) for normal positive x to about one rounding; NaN and infinity give NaN.
// x = 2^n m with m in [sqrt(1/2), sqrt(2)), and log m = 2 artanh((m - 1) / (m + 1)) by its power series.
template <class T>
inline Lanes<T> log_positive(Lanes<T> x) {
  using Format = detail::FloatFormat<T>;
  const LaneBits<T> bits = std::bit_cast<LaneBits<T>>(x);
  const LaneBits<T> half = std::bit_cast<LaneBits<T>>(broadcast(T(0.70710678118654752440)));
  const LaneBits<T> n = (bits - half) >> Format::kMantissa;
  const Lanes<T> m = std::bit_cast<Lanes<T>>(bits - (n << Format::kMantissa));
  const Lanes<T> s = (m - T(1)) / (m + T(1)), s2 = s * s;
  Lanes<T> series = broadcast(T(1.0 / (2 * Format::kLogTerms + 1)));
#pragma GCC unroll 16
  for (int k = Format::kLogTerms - 1; k >= 0; --k) series = series * s2 + T(1.0 / (2 * k + 1));
  const Lanes<T> exponent = __builtin_convertvector(n, Lanes<T>);
  return (exponent * Format::kLn2High + (T(2) * s * series + exponent * Format::kLn2Low)) + (x - x);
}

// Zeroed memory for whole vectors, aligned.
template <class T>
class LaneScratch {
 public:
  explicit LaneScratch(int64_t vectors) : memory_(size_t((vectors + 1) * kLanes<T>)) {
    const auto address = reinterpret_cast<uintptr_t>(memory_.data());
    data_ = memory_.data() + ((64 - address % 64) % 64) / sizeof(T);
  }
  LaneScratch(const LaneScratch&) = delete;
  T* data() { return data_; }

 private:
  std::vector<T> memory_;
  T* data_;
};

}  // namespace eq::cpu
