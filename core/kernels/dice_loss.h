#pragma once
// dice_loss: one minus the overlap of answer and labels, class by class, over the whole batch.
//
//   p = softmax(z), y = onehot(label); sums run over the positions whose label is not ignore_index
//   I = sum p y,  P = sum p^e,  Y = sum y                     of each class; e = 2 with `squared`, else 1
//   loss = sum over the classes with Y > 0 of 1 - (2 I + smooth) / (P + Y + smooth), divided by their number, or (kAll) by C
//   g_c = d loss / d P_c * e p_c^(e-1) + y_c d loss / d I_c,  grad_z_c = p_c (g_c - sum_k g_k p_k), 0 where ignored.
//
// A class that no label names has no overlap to enlarge: it counts in no mean but kAll's divisor, which is
// segmentation_models_pytorch's DiceLoss("multiclass"). kPresent does not shrink where a batch shows few of many classes.
// Where nothing is labelled the loss is 0.
//
// Shapes: logits [..., C], labels [...] uint8, int32 or int64. Bad labels are what they are to cross_entropy: DataError, on a GPU
// with the next copy of a value to the host, meanwhile the position is ignored.
// Forward reads the logits once, backward reads them and writes the gradient. Sixteen positions (eight in float64) are added in the
// logits' type, on a GPU a thread's; all else in double over fixed chunks in order: the same bits for any thread count.

#include "core/backend.h"
#include "core/host_device.h"
#include "core/kernels/class_labels.h"

namespace eq {

struct DiceLossOptions {
  enum class Mean { kPresent, kAll };
  int64_t ignore_index = kDefaultIgnoreIndex;
  Mean mean = Mean::kPresent;
  bool squared = false;
  double smooth = 0;
};

// What a class adds to the loss, and how the loss depends on its sums.
struct DiceTerm {
  double loss = 0, overlap_slope = 0, answer_slope = 0;  // slopes: d loss / d I, d loss / d P
};

// share: 1 / the number of classes in the mean.
EQ_HOST_DEVICE inline DiceTerm dice_term(double overlap, double answered, double labelled, double smooth, double share) {
  if (labelled == 0) return {};
  const double whole = answered + labelled + smooth, ratio = (2 * overlap + smooth) / whole;
  return {share * (1 - ratio), -2 * share / whole, share * ratio / whole};
}

EQ_KERNELS(
// Writes the loss (scalar, logits' type) and both slopes of each class, [2, C] float64: d loss / d I, then d loss / d P.
void dice_loss(const Tensor& logits, const Tensor& labels, const DiceLossOptions& options, Tensor& loss, Tensor& slopes);
// grad_loss is a scalar of logits' type. It says nothing about bad labels.
void dice_loss_backward(const Tensor& logits, const Tensor& labels, const DiceLossOptions& options, const Tensor& slopes,
                        const Tensor& grad_loss, Tensor& grad_logits);
)

}  // namespace eq
