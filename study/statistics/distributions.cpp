#include "study/statistics/distributions.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <string>

#include "core/errors.h"

namespace eq {
namespace {

// The continued fraction of I_x(a, b), fast for x < (a + 1)/(a + b + 2).
double beta_fraction(double a, double b, double x) {
  constexpr double kTiny = 1e-300, kAccuracy = 1e-16;
  const auto away_from_zero = [](double value) { return std::abs(value) < kTiny ? kTiny : value; };
  double c = 1, d = 1 / away_from_zero(1 - (a + b) * x / (a + 1)), result = d;
  for (int m = 1; m <= 100'000; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    double step = 1;
    for (const double coefficient : {even, odd}) {
      d = 1 / away_from_zero(1 + coefficient * d);
      c = away_from_zero(1 + coefficient / c);
      step = c * d;
      result *= step;
    }
    if (std::abs(step - 1) < kAccuracy) break;
  }
  return result;
}

void check_probability(double p, const char* where) {
  if (p > 0 && p < 1) return;
  throw UsageError("there is no quantile of the probability " + std::to_string(p), where, "use a probability between 0 and 1");
}

// The x >= 0 at which a decreasing upper tail is p <= 1/2.
template <class Tail>
double invert_tail(Tail tail, double p) {
  double low = 0, high = 1;
  while (tail(high) > p && high < 1e300) low = high, high *= 2;
  for (int i = 0; i < 200 && low < high; ++i) {
    const double middle = low + (high - low) / 2;
    if (middle == low || middle == high) break;
    (tail(middle) > p ? low : high) = middle;
  }
  return low + (high - low) / 2;
}

template <class Tail>
double quantile(Tail tail, double p) {
  return p < 0.5 ? -invert_tail(tail, p) : invert_tail(tail, 1 - p);
}

}  // namespace

double incomplete_beta(double a, double b, double x) {
  if (!(a > 0 && b > 0 && x >= 0 && x <= 1)) {
    throw UsageError("the incomplete beta function needs a, b > 0 and 0 <= x <= 1", "incomplete_beta", "check the degrees of freedom");
  }
  if (x == 0 || x == 1) return x;
  const double front = std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) + b * std::log1p(-x));
  if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(a, b, x) / a;
  return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

double normal_upper_tail(double z) { return 0.5 * std::erfc(z / std::numbers::sqrt2); }

double normal_quantile(double p) {
  check_probability(p, "normal_quantile");
  return quantile(normal_upper_tail, p);
}

double student_upper_tail(double t, double degrees) {
  if (t < 0) return 1 - student_upper_tail(-t, degrees);
  // P(T > t) = I_{d/(d + t^2)}(d/2, 1/2) / 2.
  return 0.5 * incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t));
}

double student_quantile(double p, double degrees) {
  check_probability(p, "student_quantile");
  return quantile([degrees](double t) { return student_upper_tail(t, degrees); }, p);
}

double normal_score(double t, double degrees) {
  if (std::isnan(t)) return t;
  constexpr double kLeast = std::numeric_limits<double>::min();  // beyond it scores are 37.5, which is as good as any
  const double tail = std::max(student_upper_tail(std::abs(t), degrees), kLeast);
  return std::copysign(invert_tail(normal_upper_tail, tail), t);
}

double sign_test(int64_t wins, int64_t losses) {
  const int64_t n = wins + losses;
  double term = -double(n) * std::numbers::ln2, sum = 0;  // log of the binomial probability of k
  for (int64_t k = 0; k <= std::min(wins, losses); ++k) {
    sum += std::exp(term);
    term += std::log(double(n - k) / double(k + 1));
  }
  return std::min(1.0, 2 * sum);
}

}  // namespace eq
