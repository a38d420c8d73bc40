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

struct EvalRequest {
  EvaluateOptions options;
  PipelineOptions pipeline;
  int64_t limit = 0;  // pictures from the start of the set; 0: all
  // After each picture: its index, labels and predicted classes, uint8 [h,w] of the label's own size.
  std::function<void(int64_t index, const Tensor& labels, const Tensor& predictions)> on_picture;
  std::function<void(int64_t done, int64_t all)> on_progress;  // pictures, after each forward pass
  std::function<bool()> stop;  // asked before each picture; true ends the evaluation early
};

struct EvalResult {
  SegmentationMetrics metrics;
  int64_t pictures = 0;
  double seconds = 0;
  size_t peak_bytes = 0;  // of tensors
  bool stopped = false;   // early: the metrics are those of a part
};

// Runs the model over a data set in evaluation mode; the mode is restored. Throws UsageError for an endless set,
// DataError for a data set of another number of classes, and what loading throws.
EvalResult evaluate(EncoderDecoder& model, const Dataset& dataset, const EvalRequest& request);

}  // namespace eq
