#include "core/kernels/softmax.h"

#include "autograd/checks.h"
#include "autograd/functional.h"
#include "autograd/node.h"

namespace eq {
namespace {

struct SoftmaxBackward final : Node {
  SoftmaxBackward(const char* name, const Tensor& y, bool logarithm) : Node(name), y_(save(y)), logarithm_(logarithm) {}

  TensorList backward(const TensorList& grads) override {
    Tensor grad_x = Tensor::empty_like(y_.get());
    EQ_RUN(grads[0].device(), softmax_backward(grads[0], y_.get(), logarithm_, grad_x));
    return {grad_x};
  }

  SavedTensor& y_;
  bool logarithm_;
};

Tensor softmax_of(const Tensor& x, bool logarithm, const char* op) {
  check::floating(op, {"x", x});
  check::rank_at_least(op, {"x", x}, 1);
  check::that(x.size(-1) > 0, op, "the last axis of x " + to_string(x.shape()) + " is empty", "there must be at least one class");
  Tensor y = Tensor::empty_like(x);
  EQ_RUN(x.device(), softmax_forward(x, logarithm, y));
  trace(op, y, {x});
  record<SoftmaxBackward>(y, {x}, op, y, logarithm);
  return y;
}

}  // namespace

Tensor softmax(const Tensor& x) { return softmax_of(x, false, "softmax"); }
Tensor log_softmax(const Tensor& x) { return softmax_of(x, true, "log_softmax"); }

}  // namespace eq
