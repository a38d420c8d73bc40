#include <fmt/format.h>

#include "autograd/functional.h"
#include "autograd/ops/class_labels_checks.h"

namespace eq {

Tensor hard_examples(const Tensor& logits, const Tensor& labels, const HardExamplesOptions& options) {
  check_class_labels("hard_examples", logits, labels, options.ignore_index);
  const auto refuse = [](const std::string& what, const std::string& hint) {
    throw UsageError("hard_examples: " + what, "hard_examples", hint);
  };
  if (!(options.threshold > 0 && options.threshold <= 1)) {
    refuse("the threshold is " + fmt::format("{:g}", options.threshold), "it is a probability: above 0, at most 1");
  }
  if (options.min_kept < 0) refuse("min_kept is " + std::to_string(options.min_kept), "it is a number of positions: 0 or more");
  dispatch_labels(labels, "hard_examples", [&]<typename Label>() {
    if (int64_t(Label(options.ignore_index)) == options.ignore_index) return;
    refuse("the ignore index " + std::to_string(options.ignore_index) + " is no value of " + name_of(labels.dtype()) + " labels",
           "convert them: labels.to(DType::kInt32)");
  });
  Tensor hard = Tensor::empty_like(labels);
  EQ_RUN(labels.device(), hard_examples(logits, labels, options, hard));
  return hard;
}

}  // namespace eq
