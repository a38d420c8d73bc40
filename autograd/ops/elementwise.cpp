#include "core/kernels/elementwise.h"

#include "autograd/checks.h"
#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/kernels/reduce.h"

namespace eq {
namespace {

struct Kept {
  const char* name;
  Reads reads;
};

Kept kept_by(UnaryOp op) {
  return with_formula(op, []<class Formula>() { return Kept{Formula::kName, Formula::kReads}; });
}
Kept kept_by(BinaryOp op) {
  return with_formula(op, []<class Formula>() { return Kept{Formula::kName, Formula::kReads}; });
}

// The derivative is 1 whatever the arguments: the gradient passes through untouched.
bool passes_through(UnaryOp op, double p, double q) {
  return with_formula(op, [p, q]<class Formula>() {
    constexpr double kUnread = std::numeric_limits<double>::quiet_NaN();
    return Formula::kReads == Reads::kNothing && Formula::slope(kUnread, kUnread, p, q) == 1;
  });
}
bool passes_through(BinaryOp op, int argument) {
  return with_formula(op, [argument]<class Formula>() {
    constexpr double kUnread = std::numeric_limits<double>::quiet_NaN();
    return Formula::kReads == Reads::kNothing &&
           (argument == 0 ? Formula::slope_a(kUnread, kUnread) : Formula::slope_b(kUnread, kUnread)) == 1;
  });
}

struct UnaryBackward final : Node {
  UnaryBackward(UnaryOp op, const Kept& kept, const Tensor& x, const Tensor& y, double p, double q)
      : Node(kept.name), op_(op), p_(p), q_(q), x_(save(kept.reads == Reads::kX ? x : Tensor())),
        y_(save(kept.reads == Reads::kY ? y : Tensor())) {}

  TensorList backward(const TensorList& grads) override {
    if (passes_through(op_, p_, q_)) return {grads[0]};
    const Tensor &x = x_.get(), &y = y_.get();
    // A gradient that nobody else holds is overwritten: one array less to touch.
    Tensor grad_x = grads[0].is_unique() ? grads[0] : Tensor::empty_like(grads[0]);
    EQ_RUN(grads[0].device(), unary_backward(op_, grads[0], x, y, p_, q_, grad_x));
    return {grad_x};
  }

  UnaryOp op_;
  double p_, q_;
  SavedTensor &x_, &y_;
};

Tensor unary(UnaryOp op, const Tensor& x, double p = 0, double q = 0) {
  const Kept kept = kept_by(op);
  check::floating(kept.name, {"x", x});
  Tensor y = Tensor::empty_like(x);
  EQ_RUN(x.device(), unary_forward(op, x, p, q, y));
  trace(kept.name, y, {x}, UnaryNumbers{p, q});
  record<UnaryBackward>(y, {x}, op, kept, x, y, p, q);
  return y;
}

struct BinaryBackward final : Node {
  BinaryBackward(BinaryOp op, const Kept& kept, const Tensor& a, const Tensor& b)
      : Node(kept.name),
        op_(op),
        shape_a_(a.shape()),
        shape_b_(b.shape()),
        a_(save(kept.reads == Reads::kArguments ? a : Tensor())),
        b_(save(kept.reads == Reads::kArguments ? b : Tensor())) {}

  TensorList backward(const TensorList& grads) override {
    const Tensor &a = a_.get(), &b = b_.get();
    TensorList result(2);
    for (int argument = 0; argument < 2; ++argument) {
      if (!needs(argument)) continue;
      Tensor grad = grads[0];
      if (!passes_through(op_, argument)) {
        grad = Tensor::empty_like(grads[0]);
        EQ_RUN(grads[0].device(), binary_backward(op_, argument, grads[0], a, b, grad));
      }
      result[argument] = sum_to(grad, argument == 0 ? shape_a_ : shape_b_);
    }
    return result;
  }

  BinaryOp op_;
  Shape shape_a_, shape_b_;
  SavedTensor &a_, &b_;
};

Tensor binary(BinaryOp op, const Tensor& a, const Tensor& b) {
  const Kept kept = kept_by(op);
  check::floating(kept.name, {"b", b});
  check::alike(kept.name, {{"a", a}, {"b", b}});
  Tensor y = Tensor::empty(broadcast_shapes(a.shape(), b.shape(), kept.name), a.dtype(), a.device());
  EQ_RUN(a.device(), binary_forward(op, a, b, y));
  trace(kept.name, y, {a, b});
  record<BinaryBackward>(y, {a, b}, op, kept, a, b);
  return y;
}

Tensor binary(BinaryOp op, double a, const Tensor& b) {
  check::floating(kept_by(op).name, {"b", b});
  return binary(op, Tensor::full({}, a, b.dtype(), b.device()), b);
}

}  // namespace

#define EQ_DEFINE_0(name, ...) \
  Tensor name(const Tensor& x) { return unary(UnaryOp::name, x); }
#define EQ_DEFINE_1(name, ...) \
  Tensor name(const Tensor& x, double p) { return unary(UnaryOp::name##_number, x, p); }
#define EQ_DEFINE_2(name, ...) \
  Tensor name(const Tensor& x, double p, double q) { return unary(UnaryOp::name##_number, x, p, q); }
#define EQ_DEFINE_BINARY(name, ...) \
  Tensor name(const Tensor& a, const Tensor& b) { return binary(BinaryOp::name, a, b); }
EQ_UNARY_OPERATORS(EQ_DEFINE_0)
EQ_UNARY_OPERATORS_1(EQ_DEFINE_1)
EQ_UNARY_OPERATORS_2(EQ_DEFINE_2)
EQ_BINARY_OPERATORS(EQ_DEFINE_BINARY)
Tensor sub(double a, const Tensor& b) { return binary(BinaryOp::sub, a, b); }
Tensor div(double a, const Tensor& b) { return binary(BinaryOp::div, a, b); }

}  // namespace eq
