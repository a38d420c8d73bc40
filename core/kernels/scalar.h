#pragma once
// The scalar functions behind the elementwise formulas. float64 uses the standard library. float32 uses branch-free
// forms that the compiler vectorises, several times faster than one library call per element: an exponential, and what
// follows from it; a logarithm. Their polynomials interpolate at Chebyshev nodes.
//
// float32 accuracy, largest relative error: exp, log 1e-7; sigmoid, tanh, softplus 2e-7; normal_cdf 5e-7 in [-1, 1], growing
// to 4e-6 where it vanishes (below -11). Results too small for a normal float may be 0. NaN stays NaN.

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

// e^x = 2^n e^r with n = round(x / ln 2) and |r| <= ln 2 / 2. n is read from the low bits of a sum whose last place is
// 1, and applied in two factors, since 2^128 is no float.
EQ_HOST_DEVICE inline float exp(float x) {
  constexpr float kShift = 0x1.8p23f, kLog2High = 0x1.62e4p-1f, kLog2Low = 0x1.7f7d1cp-20f;  // ln 2 in two parts
  const float limited = x > 105 ? 105.f : x < -105 ? -105.f : x;
  const float shifted = limited * float(std::numbers::log2e) + kShift;
  const float n = shifted - kShift;
  const float r = limited - n * kLog2High - n * kLog2Low;
  const int32_t power = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kShift);
  const int32_t half = power >> 1;
  const float scale = std::bit_cast<float>((half + 127) << 23), rest = std::bit_cast<float>((power - half + 127) << 23);
  return polynomial(r, 1.f, 1.f, 0.5f, 0.166665734f, 0.0416665501f, 0.00836377387f, 0.00139269266f) * scale * rest;
}

EQ_HOST_DEVICE inline double log(double x) { return std::log(x); }

// x = 2^n (1 + t) with 1 + t in [sqrt(1/2), sqrt(2)): n ln 2 + t - t^2 / 2 + t^3 P(t), small terms first. Numbers below the normal ones are read as
// integers times 2^-149, so that they are none of the arithmetic's business.
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

// Powers of small whole numbers are products: p is the same for a whole array, so its branch costs little, std::pow much.
template <class T>
EQ_HOST_DEVICE inline T power(T x, T p) {
  if (p == 2) return x * x;
  if (p == 3) return x * x * x;
  if (p == 1) return x;
  if (p == 0) return T(1);
  if (p == -1) return 1 / x;
  if (p == T(0.5)) return std::sqrt(x);
  return std::pow(x, p);
}

template <class T>
EQ_HOST_DEVICE inline T sigmoid(T x) { return 1 / (1 + exp(-x)); }

EQ_HOST_DEVICE inline double tanh(double x) { return std::tanh(x); }

// Near zero x + x^3 P(x^2); elsewhere 1 - 2 / (e^2|x| + 1) with the sign of x.
EQ_HOST_DEVICE inline float tanh(float x) {
  const float z = x * x, size = std::abs(x);
  const float near =
      x + x * z * polynomial(z, -0.333333284f, 0.133327188f, -0.0538432632f, 0.0209613291f, -0.00604516509f);
  const float far = std::copysign(1 - 2 / (exp(2 * size) + 1), x);
  return size < 0.63f ? near : far;
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
  return T(std::numbers::inv_sqrtpi / std::numbers::sqrt2) * exp(T(-0.5) * x * x);
}

EQ_HOST_DEVICE inline double normal_cdf(double x) { return 0.5 * std::erfc(-x * (std::numbers::sqrt2 / 2)); }

// The lower tail is e^(-x^2/2) F(s) / (2 + 4 z) with z = |x| / sqrt 2 and s = (z - 3) / (z + 3), the variable in which
// the scaled complementary error function is smooth up to infinity (Shepherd and Laframboise 1981); the upper is its
// complement.
EQ_HOST_DEVICE inline float normal_cdf(float x) {
  const float size = std::abs(x) > 40 ? 40.f : std::abs(x);  // the tail is 0 by then
  const float z = size * float(std::numbers::sqrt2 / 2), s = (z - 3) / (z + 3);
  const float smooth =
      polynomial(s, 1.25300806f, -0.135620214f, -0.0475622517f, 0.129627175f, -0.119274519f, 0.0684107595f,
                 -0.0237656922f, 0.00228495215f, 0.00187749465f, -0.000513159436f, -9.35106291e-05f);
  const float tail = exp(-0.5f * x * x) * smooth / (2 + 4 * z);
  return x > 0 ? 1 - tail : tail;
}

template <class T>
EQ_HOST_DEVICE inline T silu_slope(T x, T sigmoid) { return sigmoid * (1 + x * (1 - sigmoid)); }

// Of the gradient of a choice: all to the winner, half to each at a tie, and to an argument that is NaN its own.
template <class T>
EQ_HOST_DEVICE inline T share(bool wins, bool tie, T self) { return wins || self != self ? T(1) : tie ? T(0.5) : T(0); }

}  // namespace eq::scalar
