#include "training/evaluator.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <future>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/allocator.h"
#include "core/errors.h"
#include "core/parallel.h"

namespace eq {
namespace {

// A picture of the set, once for each scale, and its labels.
struct Loaded {
  std::vector<Tensor> views;
  Tensor labels;
  int64_t index;

  bool fits(const Loaded& other) const {
    const auto alike = [](const Tensor& a, const Tensor& b) { return a.shape() == b.shape(); };
    return alike(labels, other.labels) && std::equal(views.begin(), views.end(), other.views.begin(), alike);
  }
};

// View `v` of all pictures, one batch.
Tensor stacked(const std::vector<Loaded>& pictures, size_t v) {
  const Tensor& first = pictures[0].views[v];
  if (pictures.size() == 1) return first;
  Tensor images = Tensor::empty({int64_t(pictures.size()), first.size(1), first.size(2), first.size(3)}, first.dtype());
  for (size_t i = 0; i < pictures.size(); ++i) {
    std::memcpy(static_cast<uint8_t*>(images.raw_data()) + i * first.bytes(), pictures[i].views[v].raw_data(), first.bytes());
  }
  return images;
}

// Over the labelled pixels.
double summed_cross_entropy(const Tensor& scores, const Tensor& labels, int64_t ignore_index) {
  const CrossEntropyOptions options{.ignore_index = ignore_index, .reduction = CrossEntropyOptions::Reduction::kSum};
  return cross_entropy(scores, labels.to(scores.device()), options).item();
}

}  // namespace

void check_evaluable(const EncoderDecoder& model, const Dataset& dataset, int64_t limit) {
  if (dataset.size() == Dataset::kEndless && limit <= 0) {
    throw UsageError("an endless set cannot be evaluated as a whole", "evaluation", "choose the val split, or a limit");
  }
  if (dataset.size() < 1) throw UsageError("there are no pictures to evaluate on", "evaluation", "see what the data set's size() says");
  if (model.options().num_classes != dataset.num_classes()) {
    throw DataError(fmt::format("the network has {} classes, the data set {}", model.options().num_classes, dataset.num_classes()),
                    "evaluation", "evaluate on the data that the network was trained for, or map its labels with data.label_map");
  }
}

EvalResult evaluate(EncoderDecoder& model, const Dataset& dataset, const EvalRequest& request) {
  check_evaluable(model, dataset, request.limit);
  const auto start = std::chrono::steady_clock::now();
  const ModeScope modes(model);
  model.eval();
  NoGradGuard no_grad;
  allocator(model.device()).reset_peak();
  ConfusionMatrix matrix(dataset.num_classes(), dataset.ignore_index());
  double cross_entropies = 0;  // summed over pixels
  EvalResult result;
  const int64_t total = request.limit > 0 ? std::min(request.limit, dataset.size()) : dataset.size();
  // One thread decodes the next picture while this one computes.
  const auto load = [&](int64_t index) {
    return std::async(std::launch::async, [&dataset, &request, index] {
      SerialScope serial;
      const RawSample raw = load_checked(dataset, index);
      return Loaded{prepare_views(raw.image, request.pipeline, request.options), labels_tensor(raw.labels), index};
    });
  };
  std::future<Loaded> next;
  if (total > 0) next = load(0);
  const auto take = [&](int64_t index) {
    Loaded picture = next.get();
    if (index + 1 < total) next = load(index + 1);
    return picture;
  };
  std::vector<Loaded> group;  // pictures of one size, one forward pass
  const auto run_group = [&] {
    if (group.empty()) return;
    std::vector<Tensor> views;
    for (size_t v = 0; v < group[0].views.size(); ++v) views.push_back(stacked(group, v));
    const int64_t height = group[0].labels.size(0), width = group[0].labels.size(1);
    const PixelPrediction prediction = naming_picture([&] { return dataset.describe(group[0].index); },
                                                      [&] { return predict_pixels(model, views, height, width, request.options); });
    for (size_t i = 0; i < group.size(); ++i) {
      const int64_t first = int64_t(i) * height * width, num_classes = prediction.scores.size(-1);
      const Tensor predictions = prediction.classes.alias({height, width}, first);
      ConfusionMatrix confusion(dataset.num_classes(), dataset.ignore_index());
      confusion.add(group[i].labels, predictions, dataset.describe(group[i].index));
      matrix.add(confusion);
      result.counts.push_back(confusion.class_counts());
      const double sum = summed_cross_entropy(prediction.scores.alias({height, width, num_classes}, first * num_classes), group[i].labels,
                                              dataset.ignore_index());
      cross_entropies += sum;
      if (request.on_picture) {
        request.on_picture({group[i].index, group[i].labels, predictions, confusion, sum / double(confusion.labelled())});
      }
    }
    result.pictures += int64_t(group.size());
    if (request.on_progress) request.on_progress(result.pictures, total);
    group.clear();
  };
  for (int64_t index = 0; index < total; ++index) {
    if (request.stop && request.stop()) {
      result.stopped = true;
      break;
    }
    Loaded picture = take(index);
    if (!group.empty() && !picture.fits(group[0])) run_group();
    group.push_back(std::move(picture));
    if (int64_t(group.size()) >= (request.options.mode == "whole" ? request.options.batch_size : 1)) run_group();
  }
  run_group();
  result.metrics = matrix.metrics(dataset.class_names());
  result.metrics.cross_entropy = cross_entropies / double(matrix.labelled());
  result.peak_bytes = allocator(model.device()).stats().peak_bytes;
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace eq
