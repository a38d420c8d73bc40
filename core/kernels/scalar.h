#pragma once
// The scalar functions behind the elementwise formulas. float64 uses the standard library. float32 uses branch-free
// forms that the compiler vectorises, several times faster than one library call per element: an exponential, and what
// follows from it; a logarithm. Their polynomials interpolate at Chebyshev nodes.
//
// float32 accuracy, largest relative error: exp, log, sin, cos, powers 1e-7; sigmoid, tanh, softplus 2e-7; normal_cdf 4e-7 in [-1, 1],
// growing to 4e-6 where it vanishes (below -11). Results too small for a normal float may be 0. NaN stays NaN.

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>

#ifndef EQ_HOST_DEVICE
#ifdef __CUDACC__
#define EQ_HOST_DEVICE __host__ __device__
#else
#define EQ_HOST_DEVICE
#endif
#endif

namespace eq::scalar {

// c0 + c1 x + c2 x^2 + ..., by Horner's rule.
template <class T>
EQ_HOST_DEVICE inline T polynomial(T, T c) { return c; }
template <class T, class... Rest>
EQ_HOST_DEVICE inline T polynomial(T x, T c, Rest... rest) { return c + x * polynomial(x, rest...); }

EQ_HOST_DEVICE inline double exp(double x) { return std::exp(x); }

// x as n ln 2 + r with n whole and |r| <= ln 2 / 2, and e^r.
struct ReducedExp {
  int32_t n;
  float exp_r;
};

// n is read from the low bits of a sum whose last place is 1.
EQ_HOST_DEVICE inline ReducedExp reduced_exp(float x) {
  constexpr float kShift = 0x1.8p23f, kLog2High = 0x1.62e4p-1f, kLog2Low = 0x1.7f7d1cp-20f;  // ln 2 in two parts
  const float shifted = x * float(std::numbers::log2e) + kShift;
  const float n = shifted - kShift;
  const float r = x - n * kLog2High - n * kLog2Low;
  return {std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kShift),
          polynomial(r, 1.f, 1.f, 0.5f, 0.166665734f, 0.0416665501f, 0.00836377387f, 0.00139269266f)};
}

// e^x = 2^n e^r, the power in two factors, since 2^128 is no float.
EQ_HOST_DEVICE inline float exp(float x) {
  const ReducedExp e = reduced_exp(x > 105 ? 105.f : x < -105 ? -105.f : x);
  const int32_t half = e.n >> 1;
  const float scale = std::bit_cast<float>((half + 127) << 23), rest = std::bit_cast<float>((e.n - half + 127) << 23);
  return e.exp_r * scale * rest;
}

// e^x for x <= 0 in one factor; 0 where that is no normal number.
EQ_HOST_DEVICE inline double exp_nonpositive(double x) { return std::exp(x); }
EQ_HOST_DEVICE inline float exp_nonpositive(float x) {
  constexpr float kLowest = -87.33f;
  const ReducedExp e = reduced_exp(x < kLowest ? kLowest : x);
  const float y = e.exp_r * std::bit_cast<float>((e.n + 127) << 23);
  return x < kLowest ? 0.f : y;
}

EQ_HOST_DEVICE inline double log(double x) { return std::log(x); }

// x = 2^n (1 + t) with 1 + t in [sqrt(1/2), sqrt(2)): n ln 2 + t - t^2 / 2 + t^3 P(t), small terms first. Numbers below the normal ones are
// read as integers times 2^-149, so that they are none of the arithmetic's business.
EQ_HOST_DEVICE inline float log(float x) {
  constexpr int32_t kLeastNormal = 0x00800000, kRootHalf = 0x3f3504f3, kInfinity = 0x7f800000;
  constexpr float kLog2High = 0x1.63p-1f, kLog2Low = -0x1.bd0106p-13f;  // ln 2 in two parts: n times the first is exact
  const int32_t given = std::bit_cast<int32_t>(x);
  const bool small = given < kLeastNormal;
  const int32_t bits = small ? std::bit_cast<int32_t>(float(given)) : given;
  const int32_t power = (bits - kRootHalf) >> 23;
  const float t = std::bit_cast<float>(bits - (power << 23)) - 1, n = float(small ? power - 149 : power), z = t * t;
  const float cubic = polynomial(t, 0.333333313f, -0.24999997f, 0.200007156f, -0.166678026f, 0.142490581f, -0.124256872f,
                                 0.116854198f, -0.114797339f, 0.0697161183f);
  const float y = t + (t * z * cubic + n * kLog2Low - 0.5f * z) + n * kLog2High;
  constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity(), kNaN = std::numeric_limits<float>::quiet_NaN();
  const float beyond = given >= kInfinity ? x : given == 0 || given == std::bit_cast<int32_t>(-0.f) ? kMinusInfinity : kNaN;
  return given > 0 && given < kInfinity ? y : beyond;
}

EQ_HOST_DEVICE inline double sin(double x) { return std::sin(x); }
EQ_HOST_DEVICE inline double cos(double x) { return std::cos(x); }

// Beyond, sine and cosine of a float need more digits of pi than reduced_sine has.
inline constexpr float kModerateAngle = 1e5f;

// sin(|x| + offset pi / 2), offset 0 or 1, for |x| <= kModerateAngle or NaN. |x| = n pi / 2 + r (Cody and Waite 1980): in double, where n
// times the first part of pi / 2, of 36 bits, is exact, and what is left of the largest n that comes near a multiple has 2^-60 of error. n
// chooses the series and its sign.
EQ_HOST_DEVICE inline float reduced_sine(float x, int32_t offset) {
  constexpr float kShift = 0x1.8p23f;  // adding it rounds to an integer, in the low bits
  constexpr double kHigh = 0x1.921fb5444p0, kLow = 0x1.68c234c4c6629p-39;  // pi / 2 in two parts
  const float size = std::abs(x), shifted = size * float(2 * std::numbers::inv_pi) + kShift;
  const double n = double(shifted - kShift);
  const float r = float(double(size) - n * kHigh - n * kLow), z = r * r;
  const int32_t quadrant = std::bit_cast<int32_t>(shifted) + offset;
  const float sine = r + r * z * polynomial(z, -0.166666672f, 0.00833333191f, -0.000198399968f, 2.72384545e-06f);
  const float cosine = 1 - (0.5f * z - z * z * polynomial(z, 0.0416666679f, -0.00138888881f, 2.48005254e-05f, -2.72913837e-07f));
  const int32_t bits = std::bit_cast<int32_t>((quadrant & 1) != 0 ? cosine : sine);
  return std::bit_cast<float>(bits ^ int32_t(uint32_t(quadrant & 2) << 30));
}
EQ_HOST_DEVICE inline float sin_moderate(float x) {
  return std::bit_cast<float>(std::bit_cast<int32_t>(reduced_sine(x, 0)) ^
                              (std::bit_cast<int32_t>(x) & std::numeric_limits<int32_t>::min()));
}
EQ_HOST_DEVICE inline float cos_moderate(float x) { return reduced_sine(x, 1); }

#ifdef __CUDA_ARCH__
EQ_HOST_DEVICE inline float sin(float x) { return std::sin(x); }  // the device's own is as good, and without double
EQ_HOST_DEVICE inline float cos(float x) { return std::cos(x); }
#else
EQ_HOST_DEVICE inline float sin(float x) { return std::abs(x) > kModerateAngle ? std::sin(x) : sin_moderate(x); }
EQ_HOST_DEVICE inline float cos(float x) { return std::abs(x) > kModerateAngle ? std::cos(x) : cos_moderate(x); }
#endif

// Small powers are products and roots: p is the same for a whole array, so its branches cost little, std::pow much. As in std::pow, -0 is 0
// to a root.
template <class T>
EQ_HOST_DEVICE inline T power(T x, T p) {
  if (p == 2) return x * x;
  if (p == 3) return x * x * x;
  if (p == 4) return (x * x) * (x * x);
  if (p == 1) return x;
  if (p == 0) return T(1);
  if (p == -1) return 1 / x;
  if (p == -2) return (1 / x) * (1 / x);  // the square of x might not be a normal number
  if (p == T(0.5)) return std::sqrt(x + 0);
  if (p == T(-0.5)) return 1 / std::sqrt(x + 0);
  if (p == T(1.5)) return x * std::sqrt(x + 0);
  return std::pow(x, p);
}

enum class Exponent { kFraction, kOdd, kEven };
template <class T>
inline Exponent kind_of(T p) {
  return p != std::floor(p) ? Exponent::kFraction : p / 2 != std::floor(p / 2) ? Exponent::kOdd : Exponent::kEven;
}

// x^p for any finite p but 0, without a branch: e^(p ln |x|) in double, for p multiplies the logarithm's error. ln |x| = n ln 2 + 2 artanh
// s, by its power series; of the exponential a Taylor polynomial, good to 2e-10. Numbers below the normal ones count as 0. What std::pow
// does at 0, at infinity and below 0.
EQ_HOST_DEVICE inline float general_power(float x, float p, Exponent kind) {
  constexpr int32_t kRootHalf = 0x3f3504f3;
  constexpr double kShift = 0x1.8p52, kLog2 = std::numbers::ln2;
  const float size = std::abs(x), infinity = std::numeric_limits<float>::infinity();
  const int32_t bits = std::bit_cast<int32_t>(size), n = (bits - kRootHalf) >> 23;
  const double m = std::bit_cast<float>(bits - (n << 23)), s = (m - 1) / (m + 1), z = s * s;
  const double log = n * kLog2 + s * polynomial(z, 2., 2. / 3, 2. / 5, 2. / 7, 2. / 9, 2. / 11, 2. / 13, 2. / 15);
  const double y = p * log, limited = y > 200 ? 200. : y < -200 ? -200. : y;
  const double shifted = limited * std::numbers::log2e + kShift, r = limited - (shifted - kShift) * kLog2;
  const double series = polynomial(r, 1., 1., 1. / 2, 1. / 6, 1. / 24, 1. / 120, 1. / 720, 1. / 5040, 1. / 40320);
  const float power = float(series * std::bit_cast<double>((std::bit_cast<int64_t>(shifted) + 1023) << 52));
  const bool zero = size < 0x1p-126f, infinite = size == infinity;
  const float magnitude = zero ? (p > 0 ? 0.f : infinity) : infinite ? (p > 0 ? infinity : 0.f) : power;
  const float result = std::copysign(magnitude, kind == Exponent::kOdd ? x : 1.f);
  const bool undefined = (kind == Exponent::kFraction && x < 0 && !zero && !infinite) || x != x;
  return undefined ? std::numeric_limits<float>::quiet_NaN() : result;
}

template <class T>
EQ_HOST_DEVICE inline T sigmoid(T x) { return 1 / (1 + exp(-x)); }

EQ_HOST_DEVICE inline double tanh(double x) { return std::tanh(x); }

// Of |x|, with the sign of x: near zero x + x^3 P(x^2); elsewhere 1 - 2 / (e^2x + 1).
EQ_HOST_DEVICE inline float tanh(float x) {
  const float z = x * x, size = std::abs(x);
  const float near =
      size + size * z * polynomial(z, -0.333333284f, 0.133327188f, -0.0538432632f, 0.0209613291f, -0.00604516509f);
  const float far = 1 - 2 / (exp(2 * size) + 1);
  return std::copysign(size < 0.63f ? near : far, x);
}

EQ_HOST_DEVICE inline double softplus(double x) { return (x > 0 ? x : 0.0) + std::log1p(std::exp(-std::abs(x))); }

// log(1 + e) = e P(e) for e = e^-|x| in [0, 1].
EQ_HOST_DEVICE inline float softplus(float x) {
  const float e = exp(-std::abs(x));
  const float log1p = e * polynomial(e, 0.999999995f, -0.499998926f, 0.333297105f, -0.249516163f, 0.196632742f,
                                     -0.15269667f, 0.105436237f, -0.0563736121f, 0.0195425269f, -0.00317605693f);
  return (x < 0 ? 0.f : x) + log1p;
}

// Density and distribution function of the standard normal.
template <class T>
EQ_HOST_DEVICE inline T normal_density(T x) {
  return T(std::numbers::inv_sqrtpi / std::numbers::sqrt2) * exp_nonpositive(T(-0.5) * x * x);
}

EQ_HOST_DEVICE inline double normal_cdf(double x) { return 0.5 * std::erfc(-x * (std::numbers::sqrt2 / 2)); }

// The lower tail is e^(-x^2/2) F(s) t with t = 1 / (|x| + c) and s = (|x| - c) / (|x| + c), the variable in which the scaled complementary
// error function is smooth up to infinity (Shepherd and Laframboise 1981); the upper is its complement. c = 4.75 needs the fewest terms.
EQ_HOST_DEVICE inline float normal_cdf(float x) {
  constexpr float c = 4.75f;
  const float t = 1 / (std::abs(x) + c), s = 1 - 2 * c * t;
  const float smooth = polynomial(s, 0.766416311f, -0.653589308f, 0.472063839f, -0.284184933f, 0.138111949f, -0.0506189913f,
                                  0.0115347048f, 0.000201214687f, -0.00131885416f);
  const float tail = exp_nonpositive(-0.5f * x * x) * smooth * t;
  return x > 0 ? 1 - tail : tail;
}

template <class T>
EQ_HOST_DEVICE inline T silu_slope(T x, T sigmoid) { return sigmoid * (1 + x * (1 - sigmoid)); }

// Of the gradient of a choice: all to the winner, half to each at a tie, and to an argument that is NaN its own.
template <class T>
EQ_HOST_DEVICE inline T share(bool wins, bool tie, T self) { return wins || self != self ? T(1) : tie ? T(0.5) : T(0); }

}  // namespace eq::scalar
