#pragma once
// Evaluation: scores of whole pictures or averaged over sliding windows, at the label's size, into one confusion matrix.

#include <functional>
#include <string>
#include <vector>

#include "core/errors.h"
#include "datasets/dataset.h"
#include "datasets/transforms.h"
#include "models/segmentor.h"
#include "training/metrics.h"
#include "training/options.h"

namespace eq {

// Class scores [N,H,W,K] for prepared pictures [N,H,W,3], no gradient. Whole: one pass. Slide: windows of options.crop every options.stride pixels, the last
// ones moved inside the picture (windows larger than the picture are cut to it), overlapping scores averaged (mmsegmentation).
// The model must be in evaluation mode. Throws UsageError when a stride is larger than its window, NumericalError when a
// score is not finite.
Tensor predict_scores(EncoderDecoder& model, const Tensor& images, const EvaluateOptions& options);

// The windows of slide mode, row by row.
std::vector<Window> slide_windows(int64_t height, int64_t width, const EvaluateOptions& options);

// The class of each pixel, uint8 [N,height,width]: the scores resized to that size where it differs.
Tensor predict_classes(EncoderDecoder& model, const Tensor& images, int64_t height, int64_t width, const EvaluateOptions& options);

// fn(), which uses the network; a picture that is too small for it (ShapeError) becomes a DataError that says where: name().
template <class Name, class Fn>
auto naming_picture(Name name, Fn fn) {
  try {
    return fn();
  } catch (const ShapeError& error) {
    throw DataError(error.what_happened(), name(), error.try_this());
  }
}

struct EvalRequest {
  EvaluateOptions options;
  PipelineOptions pipeline;
  int64_t limit = 0;  // pictures from the start of the set; 0: all
  // After each picture: its index, labels and predicted classes, uint8 [h,w] of the label's own size.
  std::function<void(int64_t index, const Tensor& labels, const Tensor& predictions)> on_picture;
  std::function<bool()> stop;  // asked before each batch; true ends the evaluation early
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
