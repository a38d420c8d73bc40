#pragma once
// What the losses over labels ask of their arguments (core/kernels/class_labels.h).

#include "autograd/checks.h"
#include "core/kernels/class_labels.h"

namespace eq {

inline void check_class_labels(const char* op, const Tensor& logits, const Tensor& labels, int64_t ignore_index) {
  check::floating(op, {"logits", logits});
  check::rank_at_least(op, {"logits", logits}, 1);
  check::that(logits.size(-1) > 0, op, "logits have no classes", "logits are [..., C] with C at least 1");
  check::defined(op, {"labels", labels});
  dispatch_labels(labels, op, []<typename>() {});
  if (!(labels.device() == logits.device())) {
    throw DeviceError(std::string(op) + ": labels are on " + to_string(labels.device()) + ", logits on " + to_string(logits.device()), op,
                      check::kMoveOne);
  }
  const Shape positions(std::span(logits.shape().begin(), size_t(logits.rank() - 1)));
  const int64_t classes = logits.size(-1);
  if (ignore_index == kDefaultIgnoreIndex && classes > ignore_index) {
    throw UsageError(std::string(op) + ": of " + std::to_string(classes) + " classes " + std::to_string(ignore_index) + " would be ignored", op,
                     "set ignore_index: -1 ignores none");
  }
  if (!(labels.shape() == positions)) {
    throw ShapeError(std::string(op) + ": labels must have the shape of logits without the class axis, " + to_string(positions) +
                         ", they are " + describe(labels),
                     std::string(op) + ", logits " + describe(logits), "resize logits to the labels' size first");
  }
}

}  // namespace eq
