#pragma once
// cross_entropy: log-softmax over classes and negative log-likelihood, in one pass that can also write the gradient.
//
//   per position: l = w[label] * (logsumexp(z) - z[label]); ignored positions (label == ignore_index) give 0
//   kMeanAll:     sum l / number of positions, ignored ones included (mmsegmentation's default)
//   kMeanValid:   sum l / sum of w[label] over valid positions (PyTorch's mean); 0 when there is none
//   kSum:         sum l
//   grad_z = (softmax(z) - onehot(label)) * w[label] * grad_loss / denominator, 0 where ignored.
//
// Shapes: logits [..., C], labels [...] uint8, int32 or int64 (class indices, or ignore_index), class_weights [C] or undefined.
// A label outside [0, C) that is not ignore_index throws DataError with its value and position, before any gradient; on a GPU
// the position counts as ignored, and the error comes with the next copy of a value to the host.
// Labels are checked in a pass of their own, then logits are read once and the gradient is written once. The loss of no
// position at all is 0. Sums in double over fixed chunks in order: the same bits for any thread count.

#include "core/backend.h"
#include "core/kernels/class_labels.h"

namespace eq {

struct CrossEntropyOptions {
  enum class Reduction { kMeanAll, kMeanValid, kSum };
  int64_t ignore_index = kDefaultIgnoreIndex;
  Tensor class_weights = {};
  Reduction reduction = Reduction::kMeanAll;
};

EQ_KERNELS(
// Writes the loss (scalar, logits' type) and, if grad_logits is defined, d loss / d logits.
void cross_entropy(const Tensor& logits, const Tensor& labels, const CrossEntropyOptions& options, Tensor& loss,
                   Tensor& grad_logits);
)

namespace cuda {
// Writes grad_loss * d loss / d logits alone; grad_loss is a scalar of logits' type. It says nothing about bad labels.
void cross_entropy_backward(const Tensor& logits, const Tensor& labels, const CrossEntropyOptions& options,
                            const Tensor& grad_loss, Tensor& grad_logits);
}  // namespace cuda

}  // namespace eq
