#pragma once
// Evaluation: predictions for a data set into one confusion matrix.

#include <functional>
#include <string>
#include <vector>

#include "datasets/dataset.h"
#include "datasets/transforms.h"
#include "models/segmentor.h"
#include "training/metrics.h"
#include "training/options.h"
#include "training/prediction.h"

namespace eq {

struct EvaluatedPicture {
  int64_t index;                       // in the data set
  const Tensor &labels, &predictions;  // classes, uint8 [h,w] of the label's own size
  const ConfusionMatrix& confusion;    // of these two
  double cross_entropy;                // mean over its labelled pixels; NaN: it has none
};

struct EvalRequest {
  EvaluateOptions options = {};
  PipelineOptions pipeline = {};
  int64_t limit = 0;  // pictures from the start of the set; 0: all
  std::function<void(const EvaluatedPicture& picture)> on_picture = {};  // after each
  std::function<void(int64_t done, int64_t all)> on_progress = {};       // pictures, after each forward pass
  std::function<bool()> stop = {};                                       // asked before each picture; true ends the evaluation early
};

struct EvalResult {
  SegmentationMetrics metrics;
  int64_t pictures = 0;
  std::vector<std::vector<ClassCounts>> counts;  // of each picture, in the order of the set: what tells how sure the mean IoU is
  double seconds = 0;
  size_t peak_bytes = 0;  // of tensors
  bool stopped = false;   // early: the metrics are those of a part
};

// Throws UsageError for a set without pictures, or an endless one without a limit, and DataError for one of another number of classes.
void check_evaluable(const EncoderDecoder& model, const Dataset& dataset, int64_t limit = 0);

// Runs the model over a data set in evaluation mode; the mode is restored. Throws what check_evaluable does, and what loading throws.
EvalResult evaluate(EncoderDecoder& model, const Dataset& dataset, const EvalRequest& request);

}  // namespace eq
