#include "core/kernels/elementwise.h"

#include "cuda/map.h"

namespace eq::cuda {
namespace {

// What a formula does not read is not loaded: NaN, as on the CPU.

template <class Formula, class T>
struct Unary {
  Wide<T> p, q;
  EQ_HOST_DEVICE T operator()(T x) const { return T(Formula::f(Wide<T>(x), p, q)); }
};

template <class Formula, class T>
struct UnarySlope {
  using W = Wide<T>;
  W p, q;
  EQ_HOST_DEVICE T operator()(T grad_y) const { return T(W(grad_y) * Formula::slope(W(NAN), W(NAN), p, q)); }
  EQ_HOST_DEVICE T operator()(T grad_y, T kept) const {
    constexpr bool kX = Formula::kReads == Reads::kX;
    return T(W(grad_y) * Formula::slope(kX ? W(kept) : W(NAN), kX ? W(NAN) : W(kept), p, q));
  }
};

template <class Formula, class T>
struct Binary {
  EQ_HOST_DEVICE T operator()(T a, T b) const { return T(Formula::f(Wide<T>(a), Wide<T>(b))); }
};

template <class Formula, class T, int argument>
struct BinarySlope {
  using W = Wide<T>;
  EQ_HOST_DEVICE static W slope(W a, W b) { return argument == 0 ? Formula::slope_a(a, b) : Formula::slope_b(a, b); }
  EQ_HOST_DEVICE T operator()(T grad_y) const { return T(W(grad_y) * slope(W(NAN), W(NAN))); }
  EQ_HOST_DEVICE T operator()(T grad_y, T a, T b) const { return T(W(grad_y) * slope(W(a), W(b))); }
};

}  // namespace

void unary_forward(UnaryOp op, const Tensor& x, double p, double q, Tensor& y) {
  dispatch(x.dtype(), "an elementwise operator", [&]<typename T>() {
    const Whole<T> in{data<T>(x)};
    T* out = data<T>(y);
    with_formula(op, [&]<typename Formula>() {
      map(x.device(), Formula::kName, x.numel(), Unary<Formula, T>{Wide<T>(p), Wide<T>(q)}, out, in);
    });
  });
}

void unary_backward(UnaryOp op, const Tensor& grad_y, const Tensor& x, const Tensor& y, double p, double q, Tensor& grad_x) {
  dispatch(grad_y.dtype(), "an elementwise operator", [&]<typename T>() {
    const Whole<T> in{data<T>(grad_y)}, from_x{data<T>(x)}, from_y{data<T>(y)};
    T* out = data<T>(grad_x);
    with_formula(op, [&]<typename Formula>() {
      const UnarySlope<Formula, T> slope{Wide<T>(p), Wide<T>(q)};
      if constexpr (Formula::kReads == Reads::kNothing) {
        map(grad_y.device(), Formula::kName, grad_y.numel(), slope, out, in);
      } else {
        map(grad_y.device(), Formula::kName, grad_y.numel(), slope, out, in, Formula::kReads == Reads::kX ? from_x : from_y);
      }
    });
  });
}

void binary_forward(BinaryOp op, const Tensor& a, const Tensor& b, Tensor& y) {
  dispatch(y.dtype(), "an elementwise operator", [&]<typename T>() {
    const Spread<T> left(data<T>(a), a.shape(), y.shape()), right(data<T>(b), b.shape(), y.shape());
    T* out = data<T>(y);
    with_formula(op, [&]<typename Formula>() { map(y.device(), Formula::kName, y.numel(), Binary<Formula, T>(), out, left, right); });
  });
}

void binary_backward(BinaryOp op, int argument, const Tensor& grad_y, const Tensor& a, const Tensor& b, Tensor& grad) {
  dispatch(grad.dtype(), "an elementwise operator", [&]<typename T>() {
    // Where the formula reads nothing, a and b may be undefined.
    const Whole<T> in{data<T>(grad_y)};
    const Spread<T> left(data<T>(a), a.defined() ? a.shape() : grad.shape(), grad.shape());
    const Spread<T> right(data<T>(b), b.defined() ? b.shape() : grad.shape(), grad.shape());
    T* out = data<T>(grad);
    with_formula(op, [&]<typename Formula>() {
      const auto run = [&](const auto& slope) {
        if constexpr (Formula::kReads == Reads::kNothing) {
          map(grad.device(), Formula::kName, grad.numel(), slope, out, in);
        } else {
          map(grad.device(), Formula::kName, grad.numel(), slope, out, in, left, right);
        }
      };
      if (argument == 0) {
        run(BinarySlope<Formula, T, 0>());
      } else {
        run(BinarySlope<Formula, T, 1>());
      }
    });
  });
}

}  // namespace eq::cuda
