#include "core/kernels/elementwise.h"

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

}  // namespace

void unary_forward(UnaryOp op, const Tensor& x, double p, double q, Tensor& y) {
  with_formula(op, [&]<class Formula>() {
    dispatch_floating(x.dtype(), Formula::kName, [&]<typename T>() {
      const T* in = x.data<T>();
      T* out = y.data<T>();
      const T tp = T(p), tq = T(q);
      parallel_for(x.numel(), kGrain, [=](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) out[i] = Formula::f(in[i], tp, tq);
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
        for (int64_t i = begin; i < end; ++i) {
          const T value_x = kReads == Reads::kX ? kept[i] : kUnread, value_y = kReads == Reads::kY ? kept[i] : kUnread;
          out[i] = g[i] * Formula::slope(value_x, value_y, tp, tq);
        }
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
