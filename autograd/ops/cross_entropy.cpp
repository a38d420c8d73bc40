#include "autograd/checks.h"
#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/kernels/elementwise.h"

namespace eq {
namespace {

// The forward pass has already computed the gradient; only the gradient of the loss itself is left to multiply with.
struct CrossEntropyBackward final : Node {
  explicit CrossEntropyBackward(const Tensor& grad_logits) : Node("cross_entropy"), grad_logits_(save(grad_logits)) {}

  TensorList backward(const TensorList& grads) override {
    const Tensor &factor = grads[0], &grad_logits = grad_logits_.get();
    if (factor.device().is_cpu() && factor.item() == 1) return {grad_logits};  // on a GPU a look would wait for it
    Tensor scaled = Tensor::empty_like(grad_logits);
    EQ_RUN(factor.device(), binary_forward(BinaryOp::mul, grad_logits, factor, scaled));
    return {scaled};
  }

  SavedTensor& grad_logits_;
};

void check_arguments(const Tensor& logits, const Tensor& labels, const CrossEntropyOptions& options) {
  check::parameters("cross_entropy", {"logits", logits}, {{"class_weights", options.class_weights}});
  check::rank_at_least("cross_entropy", {"logits", logits}, 1);
  check::that(logits.size(-1) > 0, "cross_entropy", "logits have no classes", "logits are [..., C] with C at least 1");
  const Shape classes = {logits.size(-1)};
  if (!labels.defined()) throw UsageError("cross_entropy: labels have no value", "cross_entropy", "pass a defined tensor");
  if (labels.dtype() != DType::kUInt8 && labels.dtype() != DType::kInt32 && labels.dtype() != DType::kInt64) {
    throw DTypeError("cross_entropy: labels must be uint8, int32 or int64, they are " + describe(labels), "cross_entropy",
                     "labels are class indices, one per position: convert them with labels.to(DType::kInt32)");
  }
  if (!(labels.device() == logits.device())) {
    throw DeviceError("cross_entropy: labels are on " + to_string(labels.device()) + ", logits on " + to_string(logits.device()),
                      "cross_entropy", "move one of them: x.to(Device)");
  }
  const Shape positions(std::span(logits.shape().begin(), size_t(logits.rank() - 1)));
  if (!(labels.shape() == positions)) {
    throw ShapeError("cross_entropy: labels must have the shape of logits without the class axis, " + to_string(positions) +
                         ", they are " + describe(labels),
                     "cross_entropy, logits " + describe(logits), "resize logits to the labels' size first");
  }
  if (options.class_weights.defined()) {
    check::shape("cross_entropy", {"class_weights", options.class_weights}, classes, "[C] = " + to_string(classes));
  }
}

}  // namespace

Tensor cross_entropy(const Tensor& logits, const Tensor& labels, const CrossEntropyOptions& options) {
  check_arguments(logits, labels, options);
  const bool wanted = grad_enabled() && logits.requires_grad();
  Tensor loss = Tensor::empty({}, logits.dtype(), logits.device());
  Tensor grad_logits = wanted ? Tensor::empty_like(logits) : Tensor();
  EQ_RUN(logits.device(), cross_entropy(logits, labels, options, loss, grad_logits));
  record<CrossEntropyBackward>(loss, {logits}, grad_logits);
  return loss;
}

}  // namespace eq
