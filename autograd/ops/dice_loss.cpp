#include <fmt/format.h>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "autograd/ops/class_labels_checks.h"

namespace eq {
namespace {

// The gradient needs the sums over all positions, so the logits are read again; what forward could keep, the probabilities, is no smaller.
struct DiceLossBackward final : Node {
  DiceLossBackward(const Tensor& logits, const Tensor& labels, const Tensor& slopes, const DiceLossOptions& options)
      : Node("dice_loss"), logits_(save(logits)), labels_(save(labels)), slopes_(save(slopes)), options_(options) {}

  TensorList backward(const TensorList& grads) override {
    Tensor grad_logits = Tensor::empty_like(logits_.get());
    EQ_RUN(grad_logits.device(), dice_loss_backward(logits_.get(), labels_.get(), options_, slopes_.get(), grads[0], grad_logits));
    return {grad_logits};
  }

  SavedTensor &logits_, &labels_, &slopes_;
  DiceLossOptions options_;
};

}  // namespace

Tensor dice_loss(const Tensor& logits, const Tensor& labels, const DiceLossOptions& options) {
  check_class_labels("dice_loss", logits, labels, options.ignore_index);
  if (!(options.smooth >= 0)) {
    throw UsageError(fmt::format("dice_loss: smooth is {:g}", options.smooth), "dice_loss", "it is added to both sums: 0 or more");
  }
  Tensor loss = Tensor::empty({}, logits.dtype(), logits.device());
  Tensor slopes = Tensor::empty({2, logits.size(-1)}, DType::kFloat64, logits.device());
  EQ_RUN(logits.device(), dice_loss(logits, labels, options, loss, slopes));
  record<DiceLossBackward>(loss, {logits}, logits, labels, slopes, options);
  return loss;
}

}  // namespace eq
