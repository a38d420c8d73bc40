#pragma once
// Prediction: the scores of pictures, whole or averaged over sliding windows, and the classes of their pixels.

#include <vector>

#include "core/errors.h"
#include "datasets/transforms.h"
#include "models/segmentor.h"
#include "training/options.h"

namespace eq {

// Throws UsageError for a value that no configuration could have, and where there is no scale, or sliding windows would leave gaps. What
// follows asks it.
void check_evaluate(const EvaluateOptions& options);

// Class scores [N,H,W,K] for prepared pictures [N,H,W,3], on whatever device, no gradient. Whole: one pass. Slide: windows of options.crop
// every options.stride pixels, the last ones moved inside the picture (windows larger than the picture are cut to it), overlapping scores
// averaged (mmsegmentation). Throws what check_evaluate does, UsageError for a model in training mode, and NumericalError when a score is
// not finite.
Tensor predict_scores(EncoderDecoder& model, const Tensor& images, const EvaluateOptions& options);

// The windows of slide mode, row by row. Throws UsageError for options out of range, and where a stride leaves gaps between them.
std::vector<Window> slide_windows(int64_t height, int64_t width, const EvaluateOptions& options);

// A picture as a network sees it, once for each of options.scales: float32 [1,H,W,3].
std::vector<Tensor> prepare_views(const Image& image, const PipelineOptions& pipeline, const EvaluateOptions& options);

// The class of each pixel, uint8 [N,height,width], for views of N pictures [N,H,W,3]: of the scores, resized to that size. Of several
// views, or with options.flip, the probabilities (softmax of the resized scores) are averaged (mmsegmentation's test-time augmentation).
Tensor predict_classes(EncoderDecoder& model, const std::vector<Tensor>& views, int64_t height, int64_t width,
                       const EvaluateOptions& options);
// The same with what the classes were taken from.
struct PixelPrediction {
  Tensor classes;  // uint8 [N,height,width], on the CPU
  Tensor scores;   // [N,height,width,K]: their softmax are the probabilities
};
PixelPrediction predict_pixels(EncoderDecoder& model, const std::vector<Tensor>& views, int64_t height, int64_t width,
                               const EvaluateOptions& options);
// The probabilities, also of a single view: [N,height,width,K] on the CPU. predict_classes is their argmax.
Tensor predict_probabilities(EncoderDecoder& model, const std::vector<Tensor>& views, int64_t height, int64_t width,
                             const EvaluateOptions& options);

// fn(), which uses the network; a picture that is too small for it (ShapeError) becomes a DataError that says where: name().
template <class Name, class Fn>
auto naming_picture(Name name, Fn fn) {
  try {
    return fn();
  } catch (const ShapeError& error) {
    throw DataError(error.what_happened(), name(), error.try_this());
  }
}

}  // namespace eq
