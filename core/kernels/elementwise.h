#pragma once
// Elementwise operators: one line each.
//
//   unary:  y[i] = f(x[i]; p, q),  grad_x[i] = grad_y[i] * f'(x[i], y[i]; p, q)      p, q: numbers, not tensors
//   binary: y[i] = f(a[i], b[i]),  grad_a[i] = grad_y[i] * df/da, grad_b[i] = grad_y[i] * df/db,
//           a and b broadcast by NumPy's rule; a gradient is then summed over the axes its argument was repeated along.
//
// To add a unary operator: one line in a table below, its declaration in autograd/functional.h, and one line of
// tests/ops/elementwise_cases.h. Kernels, recording, argument checks and tests follow from them.
//
// A line says what its derivative reads, because that is all that is kept for backward: prefer kY, which the next
// operator usually keeps as well. What a line does not read arrives as NaN, so that a wrong entry fails its test.
//
// An && or || is a branch, and keeps its loop from being vectorised: & and | are not.
//
// Accuracy: float32 results within a few units in the last place (scalar.h). Determinism: elements are independent.

#include <cmath>
#include <limits>

#include "core/kernels/scalar.h"
#include "core/backend.h"
#include "core/tensor.h"

namespace eq {

struct UnaryNumbers {
  double p = 0, q = 0;
  bool operator==(const UnaryNumbers&) const = default;
};

enum class Reads { kNothing, kX, kY, kArguments };  // kArguments: both arguments of a binary operator

// OP(name, f(x), f'(x, y), what f' reads)
#define EQ_UNARY_OPERATORS(OP)                                                                                     \
  OP(neg,        -x,                              T(-1),                                                 kNothing) \
  OP(exp,        scalar::exp(x),                  y,                                                     kY)       \
  OP(log,        scalar::log(x),                  1 / x,                                                 kX)       \
  OP(sqrt,       std::sqrt(x),                    T(0.5) / y,                                            kY)       \
  OP(rsqrt,      1 / std::sqrt(x),                T(-0.5) * y * y * y,                                   kY)       \
  OP(square,     x * x,                           2 * x,                                                 kX)       \
  OP(reciprocal, 1 / x,                           -y * y,                                                kY)       \
  OP(abs,        std::abs(x),                     T(x > 0) - T(x < 0),                                   kX)       \
  OP(sin,        scalar::sin(x),                  scalar::cos(x),                                        kX)       \
  OP(cos,        scalar::cos(x),                  -scalar::sin(x),                                       kX)       \
  OP(tanh,       scalar::tanh(x),                 1 - y * y,                                             kY)       \
  OP(sigmoid,    scalar::sigmoid(x),              y * (1 - y),                                           kY)       \
  OP(softplus,   scalar::softplus(x),             scalar::sigmoid(x),                                    kX)       \
  OP(relu,       x < 0 ? T(0) : x,                T(y > 0),                                              kY)       \
  OP(relu6,      x < 0 ? T(0) : x > 6 ? T(6) : x, T((y > 0) & (y < 6)),                                  kY)       \
  OP(gelu,       x * scalar::normal_cdf(x),       scalar::normal_cdf(x) + x * scalar::normal_density(x), kX)       \
  OP(silu,       x * scalar::sigmoid(x),          scalar::silu_slope(x, scalar::sigmoid(x)),             kX)       \
  OP(hardswish,  x < -3 ? T(0) : x > 3 ? x : x * (x + 3) / 6, x < -3 ? T(0) : x > 3 ? T(1) : x / 3 + T(0.5), kX)

// The same with one number p.
#define EQ_UNARY_OPERATORS_1(OP)                                                             \
  OP(add,        x + p,               T(1),                                        kNothing) \
  OP(mul,        x * p,               p,                                           kNothing) \
  OP(div,        x / p,               1 / p,                                       kNothing) \
  OP(pow,        scalar::power(x, p), p == 0 ? T(0) : p * scalar::power(x, p - 1), kX)       \
  OP(leaky_relu, x > 0 ? x : p * x,   x > 0 ? T(1) : p,                            kX)

// The same with two numbers p and q.
#define EQ_UNARY_OPERATORS_2(OP)                                \
  OP(clamp, x < p ? p : x > q ? q : x, T((x >= p) & (x <= q)), kX)

// OP(name, f(a, b), df/da, df/db, what both read)
#define EQ_BINARY_OPERATORS(OP)                                                                                      \
  OP(add, a + b, T(1),  T(1),         kNothing)                                                                      \
  OP(sub, a - b, T(1),  T(-1),        kNothing)                                                                      \
  OP(mul, a * b, b,     a,            kArguments)                                                                    \
  OP(div, a / b, 1 / b, -a / (b * b), kArguments)                                                                    \
  OP(maximum, a > b || a != a ? a : b, scalar::share(a > b, a == b, a), scalar::share(b > a, a == b, b), kArguments) \
  OP(minimum, a < b || a != a ? a : b, scalar::share(a < b, a == b, a), scalar::share(b < a, a == b, b), kArguments)

#define EQ_ENUMERATOR(name, ...) name,
#define EQ_ENUMERATOR_1(name, ...) name##_number,
enum class UnaryOp {
  EQ_UNARY_OPERATORS(EQ_ENUMERATOR) EQ_UNARY_OPERATORS_1(EQ_ENUMERATOR_1) EQ_UNARY_OPERATORS_2(EQ_ENUMERATOR_1)
};
enum class BinaryOp { EQ_BINARY_OPERATORS(EQ_ENUMERATOR) };
#undef EQ_ENUMERATOR
#undef EQ_ENUMERATOR_1

// Formula<op>::f and ::slope, for kernels of any backend.
template <UnaryOp op> struct UnaryFormula;
template <BinaryOp op> struct BinaryFormula;

#define EQ_FORMULA(op_name, text, value, derivative, what)                                                       \
  template <> struct UnaryFormula<UnaryOp::op_name> {                                                            \
    static constexpr const char* kName = #text;                                                                  \
    static constexpr Reads kReads = Reads::what;                                                                 \
    template <class T>                                                                                           \
    EQ_HOST_DEVICE static T f(T x, [[maybe_unused]] T p, [[maybe_unused]] T q) { return value; }                 \
    template <class T>                                                                                           \
    EQ_HOST_DEVICE static T slope([[maybe_unused]] T x, [[maybe_unused]] T y, [[maybe_unused]] T p,              \
                                  [[maybe_unused]] T q) { return derivative; }                                   \
  };
#define EQ_FORMULA_0(name, value, derivative, what) EQ_FORMULA(name, name, value, derivative, what)
#define EQ_FORMULA_1(name, value, derivative, what) EQ_FORMULA(name##_number, name, value, derivative, what)
EQ_UNARY_OPERATORS(EQ_FORMULA_0)
EQ_UNARY_OPERATORS_1(EQ_FORMULA_1)
EQ_UNARY_OPERATORS_2(EQ_FORMULA_1)
#undef EQ_FORMULA
#undef EQ_FORMULA_0
#undef EQ_FORMULA_1

#define EQ_FORMULA(name, value, derivative_a, derivative_b, what)                                          \
  template <> struct BinaryFormula<BinaryOp::name> {                                                       \
    static constexpr const char* kName = #name;                                                            \
    static constexpr Reads kReads = Reads::what;                                                           \
    template <class T> EQ_HOST_DEVICE static T f(T a, T b) { return value; }                               \
    template <class T>                                                                                     \
    EQ_HOST_DEVICE static T slope_a([[maybe_unused]] T a, [[maybe_unused]] T b) { return derivative_a; }   \
    template <class T>                                                                                     \
    EQ_HOST_DEVICE static T slope_b([[maybe_unused]] T a, [[maybe_unused]] T b) { return derivative_b; }   \
  };
EQ_BINARY_OPERATORS(EQ_FORMULA)
#undef EQ_FORMULA

// Run-time operator to compile-time formula: fn.template operator()<Formula>().
template <class Fn>
decltype(auto) with_formula(UnaryOp op, Fn&& fn) {
  switch (op) {
#define EQ_CASE(name, ...) case UnaryOp::name: return fn.template operator()<UnaryFormula<UnaryOp::name>>();
#define EQ_CASE_1(name, ...) EQ_CASE(name##_number)
    EQ_UNARY_OPERATORS(EQ_CASE)
    EQ_UNARY_OPERATORS_1(EQ_CASE_1)
    EQ_UNARY_OPERATORS_2(EQ_CASE_1)
#undef EQ_CASE
#undef EQ_CASE_1
  }
  __builtin_unreachable();
}

template <class Fn>
decltype(auto) with_formula(BinaryOp op, Fn&& fn) {
  switch (op) {
#define EQ_CASE(name, ...) case BinaryOp::name: return fn.template operator()<BinaryFormula<BinaryOp::name>>();
    EQ_BINARY_OPERATORS(EQ_CASE)
#undef EQ_CASE
  }
  __builtin_unreachable();
}

// How two operands are read along a broadcast result: axes that behave alike are merged, axes of one element dropped.
// In the last axis a stride is 0 (repeated) or 1.
struct BroadcastPlan {
  int rank = 1;
  int64_t extent[kMaxRank] = {1};
  int64_t stride_a[kMaxRank] = {0}, stride_b[kMaxRank] = {0};
};

// `a` and `b` must broadcast to `out`.
inline BroadcastPlan plan_broadcast(const Shape& a, const Shape& b, const Shape& out) {
  BroadcastPlan plan;
  plan.rank = 0;
  auto repeated = [&out](const Shape& s, int axis) {
    const int own = axis - (out.rank() - s.rank());
    return own < 0 || s[own] == 1;
  };
  bool last_a = false, last_b = false;
  for (int axis = 0; axis < out.rank(); ++axis) {
    if (out[axis] == 1) continue;
    const bool repeat_a = repeated(a, axis), repeat_b = repeated(b, axis);
    if (plan.rank > 0 && repeat_a == last_a && repeat_b == last_b) {
      plan.extent[plan.rank - 1] *= out[axis];
    } else {
      plan.extent[plan.rank] = out[axis];
      plan.stride_a[plan.rank] = repeat_a ? 0 : 1;
      plan.stride_b[plan.rank] = repeat_b ? 0 : 1;
      ++plan.rank;
    }
    last_a = repeat_a, last_b = repeat_b;
  }
  int64_t size_a = 1, size_b = 1;
  for (int axis = plan.rank - 1; axis >= 0; --axis) {
    if (plan.stride_a[axis] != 0) plan.stride_a[axis] = size_a, size_a *= plan.extent[axis];
    if (plan.stride_b[axis] != 0) plan.stride_b[axis] = size_b, size_b *= plan.extent[axis];
  }
  if (plan.rank == 0) plan.rank = 1;
  return plan;
}

// Calls fn(out, a, b, count) for the runs along the last axis that cover the elements [begin, end) of the result:
// offsets of their first elements and their length.
template <class Fn>
void for_each_run(const BroadcastPlan& plan, int64_t begin, int64_t end, Fn&& fn) {
  if (begin == end) return;  // extents may be 0, and no element has a place then
  int64_t index[kMaxRank], rest = begin, a = 0, b = 0;
  for (int axis = plan.rank - 1; axis >= 0; --axis) {
    index[axis] = rest % plan.extent[axis];
    rest /= plan.extent[axis];
    a += index[axis] * plan.stride_a[axis];
    b += index[axis] * plan.stride_b[axis];
  }
  const int last = plan.rank - 1;
  for (int64_t out = begin; out < end;) {
    const int64_t count = std::min(plan.extent[last] - index[last], end - out);
    fn(out, a, b, count);
    out += count;
    index[last] += count;
    a += count * plan.stride_a[last];
    b += count * plan.stride_b[last];
    for (int axis = last; axis > 0 && index[axis] == plan.extent[axis]; --axis) {
      a += plan.stride_a[axis - 1] - plan.extent[axis] * plan.stride_a[axis];
      b += plan.stride_b[axis - 1] - plan.extent[axis] * plan.stride_b[axis];
      index[axis] = 0;
      ++index[axis - 1];
    }
  }
}

EQ_KERNELS(
// y of x's shape; may be x itself.
void unary_forward(UnaryOp op, const Tensor& x, double p, double q, Tensor& y);
// x or y may be undefined where the formula does not read it. grad_x may be grad_y itself.
void unary_backward(UnaryOp op, const Tensor& grad_y, const Tensor& x, const Tensor& y, double p, double q,
                    Tensor& grad_x);
void binary_forward(BinaryOp op, const Tensor& a, const Tensor& b, Tensor& y);
// grad_y times the derivative by the first (`argument` 0) or second (1) argument, in the shape of the result: not yet
// summed. a and b may be undefined where the formula reads nothing.
void binary_backward(BinaryOp op, int argument, const Tensor& grad_y, const Tensor& a, const Tensor& b, Tensor& grad);
)
}  // namespace eq
