#pragma once
// Fixed vectors of 64 bytes for CPU kernels that work along a row: 16 floats or 8 doubles, in as many registers as the machine needs for
// them. So results depend neither on the instruction set's width nor on the length of a loop.

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>
#if defined(__AVX512F__) || defined(__AVX__)
#include <immintrin.h>
#endif

#include "core/kernels/registers.h"

namespace eq::cpu {

template <class T>
struct Lanes {
  typedef T Register __attribute__((vector_size(kRegisterBytes)));
  static constexpr int kParts = int(64 / kRegisterBytes), kInPart = int(kRegisterBytes / sizeof(T));
  Register part[kParts];
  T operator[](int lane) const { return part[lane / kInPart][lane % kInPart]; }
};
template <class T>
inline constexpr int64_t kLanes = int64_t(64 / sizeof(T));

// fn(a, b, ...) of each lane: a function of registers, lane by lane the same for every length of them.
template <class T, class Fn, class... Ls>
inline Lanes<T> each(const Fn& fn, const Ls&... lanes) {
  Lanes<T> result;
  for (int p = 0; p < Lanes<T>::kParts; ++p) result.part[p] = fn(lanes.part[p]...);
  return result;
}

#define EQ_LANES_OPERATOR(op)                                                                                                        \
  template <class T>                                                                                                                 \
  inline Lanes<T> operator op(const Lanes<T>& a, const Lanes<T>& b) { return each<T>([](auto x, auto y) { return x op y; }, a, b); } \
  template <class T>                                                                                                                 \
  inline Lanes<T> operator op(const Lanes<T>& a, std::type_identity_t<T> b) { return each<T>([b](auto x) { return x op b; }, a); }   \
  template <class T>                                                                                                                 \
  inline Lanes<T> operator op(std::type_identity_t<T> a, const Lanes<T>& b) { return each<T>([a](auto y) { return a op y; }, b); }
EQ_LANES_OPERATOR(+)
EQ_LANES_OPERATOR(-)
EQ_LANES_OPERATOR(*)
EQ_LANES_OPERATOR(/)
#undef EQ_LANES_OPERATOR
template <class T>
inline Lanes<T>& operator+=(Lanes<T>& a, const Lanes<T>& b) { return a = a + b; }

template <class T>
inline Lanes<T> broadcast(T value) {
  return Lanes<T>{} + value;
}

template <class T>
inline Lanes<T> load(const T* from) {
  Lanes<T> value;
  for (int p = 0; p < Lanes<T>::kParts; ++p) std::memcpy(&value.part[p], from + p * Lanes<T>::kInPart, kRegisterBytes);
  return value;
}

// As many values as a vector has doubles. (GCC 12 converts a vector in two halves.)
inline Lanes<double> load_as_double(const double* from) { return load(from); }
inline Lanes<double> load_as_double(const float* from) {
  Lanes<double> result;
  for (int p = 0; p < Lanes<double>::kParts; ++p, from += Lanes<double>::kInPart) {
#if defined(__AVX512F__)
    result.part[p] = Lanes<double>::Register(_mm512_maskz_cvtps_pd(0xFF, _mm256_loadu_ps(from)));  // the plain one warns in GCC 12
#elif defined(__AVX__)
    result.part[p] = Lanes<double>::Register(_mm256_cvtps_pd(_mm_loadu_ps(from)));
#else
    for (int lane = 0; lane < Lanes<double>::kInPart; ++lane) result.part[p][lane] = from[lane];
#endif
  }
  return result;
}

template <class T>
inline void store(T* to, const Lanes<T>& value) {
  for (int p = 0; p < Lanes<T>::kParts; ++p) std::memcpy(to + p * Lanes<T>::kInPart, &value.part[p], kRegisterBytes);
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
[[gnu::noinline, gnu::cold]] void store_first(T* to, const Lanes<T>& value, int64_t count) {
  if (count == kLanes<T>) return store(to, value);
  alignas(64) T buffer[kLanes<T>];
  store(buffer, value);
  for (int64_t i = 0; i < count; ++i) to[i] = buffer[i];
}

// Integers as large as the values, for their bits and for masks.
template <class T>
using BitsOf = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;

// All ones in the first `count` lanes, zero in the others.
template <class T>
inline Lanes<BitsOf<T>> first_lanes(int64_t count) {
  alignas(64) BitsOf<T> mask[kLanes<T>];
  for (int64_t i = 0; i < kLanes<T>; ++i) mask[i] = i < count ? -1 : 0;
  return load(mask);
}

template <class T>
inline Lanes<BitsOf<T>> lane_numbers() {
  alignas(64) BitsOf<T> numbers[kLanes<T>];
  for (int64_t i = 0; i < kLanes<T>; ++i) numbers[i] = BitsOf<T>(i);
  return load(numbers);
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
    return each<T>([fill](auto m, auto values) { return m ? values : decltype(values){} + fill; }, mask, cpu::load(row));
  }
  void store(T* row, int64_t v, const T* limit, const Lanes<T>& value) const { store_at(row, v, v + 1 == vectors, limit, value); }
  void store_at(T* row, int64_t v, bool is_last, const T* limit, const Lanes<T>& value) const {
    row += v * kLanes<T>;
    if (!is_last || row + kLanes<T> <= limit) return cpu::store(row, value);
    store_first(row, value, last);
  }
  // body(v, is_last) for the vectors of [begin, end) that there are. is_last is a constant: up to the row's end nothing is asked.
  template <class Body>
  void each_vector(int64_t begin, int64_t end, const Body& body) const {
    for (int64_t v = begin; v < std::min(end, vectors - 1); ++v) body(v, std::false_type());
    if (begin < vectors && end >= vectors) body(vectors - 1, std::true_type());
  }

  int64_t vectors;   // per row
  int64_t last;      // values in the last vector, 1 .. kLanes
  Lanes<BitsOf<T>> mask;  // of these
};

template <class T>
inline Lanes<T> max_of(const Lanes<T>& a, const Lanes<T>& b) {
  return each<T>([](auto x, auto y) { return x > y ? x : y; }, a, b);
}

namespace detail {
template <int kFirst, class V, int... kLane>
inline auto lanes_from(V v, std::integer_sequence<int, kLane...>) {
  return __builtin_shufflevector(v, v, (kFirst + kLane)...);
}

// Down to 16 bytes in halves, then by turning them round.
template <class V, class Combine>
inline auto fold_register(V v, const Combine& combine) {
  constexpr int kCount = int(sizeof(V) / sizeof(v[0]));
  if constexpr (sizeof(V) > 16) {
    using Half = std::make_integer_sequence<int, kCount / 2>;
    return fold_register(combine(lanes_from<0>(v, Half()), lanes_from<kCount / 2>(v, Half())), combine);
  } else if constexpr (kCount == 4) {
    const V two = combine(v, __builtin_shufflevector(v, v, 2, 3, 0, 1));
    return combine(two, __builtin_shufflevector(two, two, 1, 0, 3, 2))[0];
  } else {
    return combine(v, __builtin_shufflevector(v, v, 1, 0))[0];
  }
}
}  // namespace detail

// All lanes combined in halves: always the same tree, in ever shorter vectors, which cost less.
template <class T, class Combine>
inline T fold_lanes(Lanes<T> v, const Combine& combine) {
  for (int half = Lanes<T>::kParts / 2; half > 0; half /= 2) {
    for (int p = 0; p < half; ++p) v.part[p] = combine(v.part[p], v.part[p + half]);
  }
  return detail::fold_register(v.part[0], combine);
}

template <class T>
inline T sum_lanes(const Lanes<T>& v) {
  return fold_lanes<T>(v, [](auto a, auto b) { return a + b; });
}

// NaN lanes may be overlooked.
template <class T>
inline T max_lanes(const Lanes<T>& v) {
  return fold_lanes<T>(v, [](auto a, auto b) { return a > b ? a : b; });
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
template <class T>
inline typename Lanes<T>::Register exp_of_register(typename Lanes<T>::Register x) {
  using V = typename Lanes<T>::Register;
  using Bits = typename Lanes<BitsOf<T>>::Register;
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
inline Lanes<T> exp_nonpositive(const Lanes<T>& x) {
  return each<T>([](auto part) { return exp_of_register<T>(part); }, x);
}

// log(x) for normal positive x to about one rounding; NaN and infinity give NaN.
// x = 2^n m with m in [sqrt(1/2), sqrt(2)), and log m = 2 artanh((m - 1) / (m + 1)) by its power series.
template <class T>
inline typename Lanes<T>::Register log_of_register(typename Lanes<T>::Register x) {
  using V = typename Lanes<T>::Register;
  using Bits = typename Lanes<BitsOf<T>>::Register;
  using Format = detail::FloatFormat<T>;
  const Bits bits = std::bit_cast<Bits>(x), half = std::bit_cast<Bits>(V{} + T(0.70710678118654752440));
  const Bits n = (bits - half) >> Format::kMantissa;
  const V m = std::bit_cast<V>(bits - (n << Format::kMantissa));
  const V s = (m - T(1)) / (m + T(1)), s2 = s * s;
  V series = V{} + T(1.0 / (2 * Format::kLogTerms + 1));
#pragma GCC unroll 16
  for (int k = Format::kLogTerms - 1; k >= 0; --k) series = series * s2 + T(1.0 / (2 * k + 1));
  const V exponent = __builtin_convertvector(n, V);
  return (exponent * Format::kLn2High + (T(2) * s * series + exponent * Format::kLn2Low)) + (x - x);
}
template <class T>
inline Lanes<T> log_positive(const Lanes<T>& x) {
  return each<T>([](auto part) { return log_of_register<T>(part); }, x);
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
