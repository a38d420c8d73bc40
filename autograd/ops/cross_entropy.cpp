#include "autograd/functional.h"
#include "autograd/node.h"
#include "autograd/ops/class_labels_checks.h"
#include "core/kernels/elementwise.h"

namespace eq {
namespace {

// On a CPU exponentials take the time: forward computes them once, for the loss and for the gradient, and only the gradient of
// the loss itself, nearly always 1, is left to multiply with.
struct CrossEntropyBackward final : Node {
  explicit CrossEntropyBackward(const Tensor& grad_logits) : Node("cross_entropy"), grad_logits_(save(grad_logits)) {}

  TensorList backward(const TensorList& grads) override {
    const Tensor &factor = grads[0], &grad_logits = grad_logits_.get();
    if (factor.item() == 1) return {grad_logits};
    Tensor scaled = Tensor::empty_like(grad_logits);
    EQ_RUN_ON_CPU(binary_forward(BinaryOp::mul, grad_logits, factor, scaled));
    return {scaled};
  }

  SavedTensor& grad_logits_;
};

// On a GPU passes over memory take the time, and the host would have to wait to see that the loss's gradient is 1. Forward reads
// logits, backward reads them again and writes: three passes, where a gradient from forward that backward multiplies takes four.
struct CrossEntropyCudaBackward final : Node {
  CrossEntropyCudaBackward(const Tensor& logits, const Tensor& labels, const CrossEntropyOptions& options)
      : Node("cross_entropy"),
        logits_(save(logits)),
        labels_(save(labels)),
        weights_(save(options.class_weights)),
        options_(options) {
    options_.class_weights = Tensor();
  }

  TensorList backward(const TensorList& grads) override {
    Tensor grad_logits = Tensor::empty_like(logits_.get());
    if constexpr (kBuiltWithCuda) {
      CrossEntropyOptions options = options_;
      options.class_weights = weights_.get();
      cuda::cross_entropy_backward(logits_.get(), labels_.get(), options, grads[0], grad_logits);
    }
    return {grad_logits};
  }

  SavedTensor &logits_, &labels_, &weights_;
  CrossEntropyOptions options_;
};

void check_arguments(const Tensor& logits, const Tensor& labels, const CrossEntropyOptions& options) {
  check_class_labels("cross_entropy", logits, labels, options.ignore_index);
  if (!options.class_weights.defined()) return;
  check::parameters("cross_entropy", {"logits", logits}, {{"class_weights", options.class_weights}});
  const Shape classes = {logits.size(-1)};
  check::shape("cross_entropy", {"class_weights", options.class_weights}, classes, "[C] = " + to_string(classes));
}

}  // namespace

Tensor cross_entropy(const Tensor& logits, const Tensor& labels, const CrossEntropyOptions& options) {
  check_arguments(logits, labels, options);
  Tensor loss = Tensor::empty({}, logits.dtype(), logits.device());
  const bool in_forward = logits.device().is_cpu() && grad_enabled() && logits.requires_grad();
  Tensor grad_logits = in_forward ? Tensor::empty_like(logits) : Tensor();
  EQ_RUN(logits.device(), cross_entropy(logits, labels, options, loss, grad_logits));
  if (logits.device().is_cpu()) {
    record<CrossEntropyBackward>(loss, {logits}, grad_logits);
  } else {
    record<CrossEntropyCudaBackward>(loss, {logits}, logits, labels, options);
  }
  return loss;
}

}  // namespace eq
