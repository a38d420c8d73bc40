#include "core/kernels/elementwise.h"

#include "cuda/launch.h"

namespace eq::cuda {
namespace {

// What a formula does not read is not loaded: NaN, as on the CPU.
template <class T>
EQ_HOST_DEVICE Wide<T> load(const T* from, int64_t i) {
  return from == nullptr ? Wide<T>(NAN) : Wide<T>(from[i]);
}

template <class Formula, class T>
struct Unary {
  const T* x;
  T* y;
  Wide<T> p, q;
  EQ_HOST_DEVICE void operator()(int64_t i) const { y[i] = T(Formula::f(Wide<T>(x[i]), p, q)); }
};

template <class Formula, class T>
struct UnarySlope {
  const T *grad_y, *x, *y;
  T* grad_x;
  Wide<T> p, q;
  EQ_HOST_DEVICE void operator()(int64_t i) const {
    grad_x[i] = T(Wide<T>(grad_y[i]) * Formula::slope(load(x, i), load(y, i), p, q));
  }
};

struct Places {
  int64_t a, b;
};
EQ_HOST_DEVICE Places places_of(const BroadcastPlan& plan, int64_t i) {
  Places places = {0, 0};
  for (int axis = plan.rank - 1; axis >= 0; --axis) {
    const int64_t index = i % plan.extent[axis];
    i /= plan.extent[axis];
    places.a += index * plan.stride_a[axis];
    places.b += index * plan.stride_b[axis];
  }
  return places;
}

template <class Formula, class T>
struct Binary {
  BroadcastPlan plan;
  const T *a, *b;
  T* y;
  EQ_HOST_DEVICE void operator()(int64_t i) const {
    const Places at = places_of(plan, i);
    y[i] = T(Formula::f(Wide<T>(a[at.a]), Wide<T>(b[at.b])));
  }
};

template <class Formula, class T, int argument>
struct BinarySlope {
  BroadcastPlan plan;
  const T *grad_y, *a, *b;
  T* grad;
  EQ_HOST_DEVICE void operator()(int64_t i) const {
    const Places at = places_of(plan, i);
    const Wide<T> left = load(a, at.a), right = load(b, at.b);
    grad[i] = T(Wide<T>(grad_y[i]) * (argument == 0 ? Formula::slope_a(left, right) : Formula::slope_b(left, right)));
  }
};

}  // namespace

void unary_forward(UnaryOp op, const Tensor& x, double p, double q, Tensor& y) {
  dispatch(x.dtype(), "an elementwise operator", [&]<typename T>() {
    with_formula(op, [&]<typename Formula>() {
      for_each(x.device(), Formula::kName, x.numel(), Unary<Formula, T>{data<T>(x), data<T>(y), Wide<T>(p), Wide<T>(q)});
    });
  });
}

void unary_backward(UnaryOp op, const Tensor& grad_y, const Tensor& x, const Tensor& y, double p, double q, Tensor& grad_x) {
  dispatch(grad_y.dtype(), "an elementwise operator", [&]<typename T>() {
    with_formula(op, [&]<typename Formula>() {
      for_each(grad_y.device(), Formula::kName, grad_y.numel(),
               UnarySlope<Formula, T>{data<T>(grad_y), data<T>(x), data<T>(y), data<T>(grad_x), Wide<T>(p), Wide<T>(q)});
    });
  });
}

void binary_forward(BinaryOp op, const Tensor& a, const Tensor& b, Tensor& y) {
  const BroadcastPlan plan = plan_broadcast(a.shape(), b.shape(), y.shape());
  dispatch(y.dtype(), "an elementwise operator", [&]<typename T>() {
    with_formula(op, [&]<typename Formula>() {
      for_each(y.device(), Formula::kName, y.numel(), Binary<Formula, T>{plan, data<T>(a), data<T>(b), data<T>(y)});
    });
  });
}

void binary_backward(BinaryOp op, int argument, const Tensor& grad_y, const Tensor& a, const Tensor& b, Tensor& grad) {
  // Where the formula reads nothing, a and b may be undefined: their places do not matter then.
  const BroadcastPlan plan = plan_broadcast(a.defined() ? a.shape() : grad.shape(), b.defined() ? b.shape() : grad.shape(), grad.shape());
  dispatch(grad.dtype(), "an elementwise operator", [&]<typename T>() {
    with_formula(op, [&]<typename Formula>() {
      const T *left = data<T>(a), *right = data<T>(b), *g = data<T>(grad_y);
      if (argument == 0) {
        for_each(grad.device(), Formula::kName, grad.numel(), BinarySlope<Formula, T, 0>{plan, g, left, right, data<T>(grad)});
      } else {
        for_each(grad.device(), Formula::kName, grad.numel(), BinarySlope<Formula, T, 1>{plan, g, left, right, data<T>(grad)});
      }
    });
  });
}

}  // namespace eq::cuda
