#pragma once
// The elementwise operators, one line each: how to call it, what it is in plain arithmetic, and where to try it.

#include <cmath>

#include "autograd/functional.h"
#include "core/random.h"

namespace eq::cases {

// Arguments drawn from where a case is tried.
inline Tensor uniform_tensor(const Shape& shape, double low, double high, uint64_t seed) {
  Tensor x = Tensor::empty(shape, DType::kFloat64);
  Random random(seed);
  for (int64_t i = 0; i < x.numel(); ++i) x.data<double>()[i] = random.uniform(low, high);
  return x;
}

struct UnaryCase {
  const char* name;
  Tensor (*op)(const Tensor&);
  double (*oracle)(double);
  double low, high;  // arguments are drawn from here
};

#define EQ_UNARY_CASE(name, formula, low, high) \
  {#name, [](const Tensor& x) { return eq::name(x); }, [](double x) -> double { return formula; }, low, high}

inline const UnaryCase kUnaryCases[] = {
    EQ_UNARY_CASE(neg, 0 - x, -3, 3),
    EQ_UNARY_CASE(exp, std::exp(x), -4, 3),
    EQ_UNARY_CASE(log, std::log(x), 0.2, 5),
    EQ_UNARY_CASE(sqrt, std::sqrt(x), 0.2, 5),
    EQ_UNARY_CASE(rsqrt, std::pow(x, -0.5), 0.3, 5),
    EQ_UNARY_CASE(square, std::pow(x, 2), -3, 3),
    EQ_UNARY_CASE(reciprocal, std::pow(x, -1), 0.4, 4),
    EQ_UNARY_CASE(abs, std::fabs(x), -3, 3),
    EQ_UNARY_CASE(sin, std::sin(x), -7, 7),
    EQ_UNARY_CASE(cos, std::cos(x), -7, 7),
    EQ_UNARY_CASE(tanh, (std::exp(2 * x) - 1) / (std::exp(2 * x) + 1), -4, 4),
    EQ_UNARY_CASE(sigmoid, std::exp(x) / (std::exp(x) + 1), -6, 6),
    EQ_UNARY_CASE(softplus, std::log(1 + std::exp(x)), -6, 6),
    EQ_UNARY_CASE(relu, std::fmax(x, 0), -3, 3),
    EQ_UNARY_CASE(relu6, std::fmin(std::fmax(x, 0), 6), -4, 10),
    EQ_UNARY_CASE(gelu, x / 2 * (1 + std::erf(x / std::sqrt(2.0))), -5, 5),
    EQ_UNARY_CASE(silu, x / (1 + std::exp(-x)), -6, 6),
    EQ_UNARY_CASE(hardswish, x* std::fmin(std::fmax(x + 3, 0), 6) / 6, -5, 5),
    {"leaky_relu", [](const Tensor& x) { return leaky_relu(x, 0.1); }, [](double x) { return x < 0 ? 0.1 * x : x; }, -3,
     3},
    {"clamp", [](const Tensor& x) { return clamp(x, -1, 0.5); },
     [](double x) { return std::fmin(std::fmax(x, -1), 0.5); }, -3, 3},
    {"pow 3", [](const Tensor& x) { return pow(x, 3); }, [](double x) { return x * x * x; }, -2, 2},
    {"pow 0", [](const Tensor& x) { return pow(x, 0); }, [](double) { return 1.0; }, -2, 2},
    {"pow -1.5", [](const Tensor& x) { return pow(x, -1.5); }, [](double x) { return 1 / (x * std::sqrt(x)); }, 0.4, 3},
    {"add number", [](const Tensor& x) { return 2.5 + x + 1; }, [](double x) { return x + 3.5; }, -3, 3},
    {"sub number", [](const Tensor& x) { return x - 2.5; }, [](double x) { return x - 2.5; }, -3, 3},
    {"mul number", [](const Tensor& x) { return -2.0 * (x * 1.5); }, [](double x) { return x * -3; }, -3, 3},
    {"div number", [](const Tensor& x) { return x / 4; }, [](double x) { return x / 4; }, -3, 3},
    {"number sub", [](const Tensor& x) { return 1 - x; }, [](double x) { return 1 - x; }, -3, 3},
    {"number div", [](const Tensor& x) { return 1 / x; }, [](double x) { return 1 / x; }, 0.4, 4},
};
#undef EQ_UNARY_CASE

struct BinaryCase {
  const char* name;
  Tensor (*op)(const Tensor&, const Tensor&);
  double (*oracle)(double, double);
};

inline const BinaryCase kBinaryCases[] = {
    {"add", [](const Tensor& a, const Tensor& b) { return a + b; }, [](double a, double b) { return a + b; }},
    {"sub", [](const Tensor& a, const Tensor& b) { return a - b; }, [](double a, double b) { return a - b; }},
    {"mul", [](const Tensor& a, const Tensor& b) { return a * b; }, [](double a, double b) { return a * b; }},
    {"div", [](const Tensor& a, const Tensor& b) { return a / b; }, [](double a, double b) { return a / b; }},
    {"maximum", [](const Tensor& a, const Tensor& b) { return maximum(a, b); },
     [](double a, double b) { return std::fmax(a, b); }},
    {"minimum", [](const Tensor& a, const Tensor& b) { return minimum(a, b); },
     [](double a, double b) { return std::fmin(a, b); }},
};

// Pairs of shapes that broadcast: equal, scalars, channels, maps, crossed, nothing at all.
struct BroadcastCase {
  Shape a, b, result;
};

inline const BroadcastCase kBroadcastCases[] = {
    {{2, 3, 4, 5}, {2, 3, 4, 5}, {2, 3, 4, 5}},
    {{}, {}, {}},
    {{2, 3}, {}, {2, 3}},
    {{}, {7}, {7}},
    {{2, 3, 4, 5}, {5}, {2, 3, 4, 5}},
    {{2, 3, 4, 5}, {2, 3, 4, 1}, {2, 3, 4, 5}},
    {{2, 1, 1, 5}, {2, 3, 4, 5}, {2, 3, 4, 5}},
    {{4, 1}, {1, 3}, {4, 3}},
    {{2, 1, 3, 1, 2}, {5, 1, 4, 1}, {2, 5, 3, 4, 2}},
    {{1, 1, 1}, {1}, {1, 1, 1}},
    {{0, 3}, {1, 3}, {0, 3}},
};

}  // namespace eq::cases
