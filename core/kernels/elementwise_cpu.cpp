#include "core/kernels/elementwise.h"

#include <cmath>
#include <type_traits>

#include "core/parallel.h"

namespace eq::cpu {
namespace {

constexpr int64_t kGrain = 1 << 14;

// Where an operand is kept: a pointer and a step of 0 or 1, fixed at compile time so that the loop vectorises.
template <bool kStepA, bool kStepB, class T, class Fn>
void loop(const T* a, const T* b, int64_t count, Fn&& fn) {
  for (int64_t i = 0; i < count; ++i) fn(i, a[kStepA ? i : 0], b[kStepB ? i : 0]);
}

// Calls fn(i, a_i, b_i) for every element i of the broadcast result.
template <class T, class Fn>
void for_each_pair(const Tensor& a, const Tensor& b, const Shape& out, Fn&& fn) {
  const T *pa = a.data<T>(), *pb = b.data<T>();
  const BroadcastPlan plan = plan_broadcast(a.shape(), b.shape(), out);
  const bool step_a = plan.stride_a[plan.rank - 1] != 0, step_b = plan.stride_b[plan.rank - 1] != 0;
  parallel_for(out.numel(), kGrain, [&](int64_t begin, int64_t end) {
    for_each_run(plan, begin, end, [&](int64_t first, int64_t at_a, int64_t at_b, int64_t count) {
      auto body = [&](int64_t i, T va, T vb) { fn(first + i, va, vb); };
      if (step_a && step_b) loop<true, true>(pa + at_a, pb + at_b, count, body);
      else if (step_a) loop<true, false>(pa + at_a, pb + at_b, count, body);
      else loop<false, true>(pa + at_a, pb + at_b, count, body);
    });
  });
}

// Sine and cosine without the branch on the argument's size.
struct SinModerate {
  static float f(float x, float, float) { return scalar::sin_moderate(x); }
  static float slope(float x, float, float, float) { return scalar::cos_moderate(x); }
};
struct CosModerate {
  static float f(float x, float, float) { return scalar::cos_moderate(x); }
  static float slope(float x, float, float, float) { return -scalar::sin_moderate(x); }
};

// Any power of a float; its derivative's exponent is one less.
struct GeneralPower {
  explicit GeneralPower(float p) : kind(scalar::kind_of(p)), kind_less(scalar::kind_of(p - 1)) {}
  float f(float x, float p, float) const { return scalar::general_power(x, p, kind); }
  float slope(float x, float, float p, float) const { return p * scalar::general_power(x, p - 1, kind_less); }
  scalar::Exponent kind, kind_less;
};

bool all_moderate(const float* x, int64_t count) {
  int large = 0;
  for (int64_t i = 0; i < count; ++i) large |= std::abs(x[i]) > scalar::kModerateAngle;
  return large == 0;
}

// Calls loop(p) with a constant if p is one of `kKnown`, and says whether it is.
template <double... kKnown, class T, class Loop>
bool loop_of_known_power(T p, const Loop& loop) {
  return ((p == T(kKnown) && (loop(T(kKnown)), true)) || ...);
}

// Calls loop(formula, p, begin, end) for parts of [begin, end). A branch inside a formula keeps its loop from being vectorised, so what it
// asks is asked here: how large the angles of a block are; which power it is, which the loop then knows as a constant.
template <class Formula, class T, class Loop>
void for_each_loop(const T* x, T p, int64_t begin, int64_t end, const Loop& loop) {
  constexpr bool kSin = std::is_same_v<Formula, UnaryFormula<UnaryOp::sin>>, kCos = std::is_same_v<Formula, UnaryFormula<UnaryOp::cos>>;
  if constexpr ((kSin || kCos) && std::is_same_v<T, float>) {
    constexpr int64_t kBlock = 512;  // read twice, the second time from the first cache
    for (; begin < end; begin += kBlock) {
      const int64_t block_end = std::min(end, begin + kBlock);
      if (all_moderate(x + begin, block_end - begin)) loop(std::conditional_t<kSin, SinModerate, CosModerate>(), p, begin, block_end);
      else loop(Formula(), p, begin, block_end);
    }
  } else if constexpr (std::is_same_v<Formula, UnaryFormula<UnaryOp::pow_number>>) {
    if (!loop_of_known_power<2., 3., 4., 1., 0., -1., -2., 0.5, -0.5, 1.5>(
            p, [&](T known) __attribute__((always_inline)) { loop(Formula(), known, begin, end); })) {
      bool done = false;
      if constexpr (std::is_same_v<T, float>) {
        done = std::isfinite(p);
        if (done) loop(GeneralPower(p), p, begin, end);
      }
      if (!done) loop(Formula(), p, begin, end);
    }
  } else {
    loop(Formula(), p, begin, end);
  }
}

}  // namespace

void unary_forward(UnaryOp op, const Tensor& x, double p, double q, Tensor& y) {
  with_formula(op, [&]<class Formula>() {
    dispatch_floating(x.dtype(), Formula::kName, [&]<typename T>() {
      const T* in = x.data<T>();
      T* out = y.data<T>();
      const T tp = T(p), tq = T(q);
      parallel_for(x.numel(), kGrain, [=](int64_t begin, int64_t end) {
        for_each_loop<Formula>(in, tp, begin, end, [=](auto formula, T number, int64_t first, int64_t last) __attribute__((always_inline)) {
          for (int64_t i = first; i < last; ++i) out[i] = formula.f(in[i], number, tq);
        });
      });
    });
  });
}

void unary_backward(UnaryOp op, const Tensor& grad_y, const Tensor& x, const Tensor& y, double p, double q,
                    Tensor& grad_x) {
  with_formula(op, [&]<class Formula>() {
    dispatch_floating(grad_y.dtype(), Formula::kName, [&]<typename T>() {
      constexpr Reads kReads = Formula::kReads;
      constexpr T kUnread = std::numeric_limits<T>::quiet_NaN();
      const T* g = grad_y.data<T>();
      const T* kept = kReads == Reads::kX ? x.data<T>() : kReads == Reads::kY ? y.data<T>() : g;
      T* out = grad_x.data<T>();
      const T tp = T(p), tq = T(q);
      parallel_for(grad_y.numel(), kGrain, [=](int64_t begin, int64_t end) {
        for_each_loop<Formula>(
            kept, tp, begin, end, [=](auto formula, T number, int64_t first, int64_t last) __attribute__((always_inline)) {
              for (int64_t i = first; i < last; ++i) {
                const T value_x = kReads == Reads::kX ? kept[i] : kUnread, value_y = kReads == Reads::kY ? kept[i] : kUnread;
                out[i] = g[i] * formula.slope(value_x, value_y, number, tq);
              }
            });
      });
    });
  });
}

void binary_forward(BinaryOp op, const Tensor& a, const Tensor& b, Tensor& y) {
  with_formula(op, [&]<class Formula>() {
    dispatch_floating(y.dtype(), Formula::kName, [&]<typename T>() {
      T* out = y.data<T>();
      for_each_pair<T>(a, b, y.shape(), [out](int64_t i, T va, T vb) { out[i] = Formula::f(va, vb); });
    });
  });
}

void binary_backward(BinaryOp op, int argument, const Tensor& grad_y, const Tensor& a, const Tensor& b, Tensor& grad) {
  with_formula(op, [&]<class Formula>() {
    dispatch_floating(grad_y.dtype(), Formula::kName, [&]<typename T>() {
      const T* g = grad_y.data<T>();
      T* out = grad.data<T>();
      if constexpr (Formula::kReads == Reads::kNothing) {
        constexpr T kUnread = std::numeric_limits<T>::quiet_NaN();
        const T slope = argument == 0 ? Formula::slope_a(kUnread, kUnread) : Formula::slope_b(kUnread, kUnread);
        parallel_for(grad.numel(), kGrain, [=](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) out[i] = g[i] * slope;
        });
      } else if (argument == 0) {
        for_each_pair<T>(a, b, grad.shape(), [=](int64_t i, T va, T vb) { out[i] = g[i] * Formula::slope_a(va, vb); });
      } else {
        for_each_pair<T>(a, b, grad.shape(), [=](int64_t i, T va, T vb) { out[i] = g[i] * Formula::slope_b(va, vb); });
      }
    });
  });
}

}  // namespace eq::cpu
