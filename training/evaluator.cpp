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
#include "core/finite.h"
#include "core/parallel.h"

namespace eq {
namespace {

class EvalMode {
 public:
  explicit EvalMode(Module& module) : module_(module), was_training_(module.is_training()) { module_.eval(); }
  ~EvalMode() { module_.train(was_training_); }
  EvalMode(const EvalMode&) = delete;

 private:
  Module& module_;
  bool was_training_;
};

// Scores of the pictures' own size.
Tensor whole_scores(EncoderDecoder& model, const Tensor& images) {
  const Tensor logits = model.forward(images).logits;
  if (!all_finite(logits)) {  // before they are resized: few
    throw NumericalError("the network's scores are not finite: its weights or running statistics have diverged", "evaluation",
                         "go back to an earlier checkpoint, lower optimizer.lr or set train.clip_norm");
  }
  return resize_bilinear(logits, images.size(1), images.size(2), model.align_corners());
}

// [N,H,W,C] -> the windows of picture n, one after the other.
Tensor cut_windows(const Tensor& images, int64_t n, const std::vector<Window>& windows) {
  const int64_t height = windows[0].height, width = windows[0].width, channels = images.size(3);
  Tensor result = Tensor::empty({int64_t(windows.size()), height, width, channels}, images.dtype());
  const size_t row_bytes = size_t(width * channels) * size_of(images.dtype());
  const auto* from = static_cast<const uint8_t*>(images.raw_data());
  auto* to = static_cast<uint8_t*>(result.raw_data());
  for (size_t w = 0; w < windows.size(); ++w) {
    for (int64_t y = 0; y < height; ++y) {
      const int64_t pixel = (n * images.size(1) + windows[w].top + y) * images.size(2) + windows[w].left;
      std::memcpy(to + (int64_t(w) * height + y) * int64_t(row_bytes), from + size_t(pixel * channels) * size_of(images.dtype()), row_bytes);
    }
  }
  return result;
}

// sums[n, rows, columns of each window] += scores[w]: windows in order for each row, so the sums do not depend on threads.
template <class T>
void add_windows(const Tensor& scores, const std::vector<Window>& windows, int64_t n, Tensor& sums) {
  const int64_t height = sums.size(1), width = sums.size(2), classes = sums.size(3);
  const T* from = scores.data<T>();
  T* to = sums.data<T>();
  parallel_for(height, grain_for(width * classes), [&](int64_t begin, int64_t end) {
    for (int64_t y = begin; y < end; ++y) {
      for (size_t w = 0; w < windows.size(); ++w) {
        const Window& window = windows[w];
        if (y < window.top || y >= window.top + window.height) continue;
        const T* source = from + (int64_t(w) * window.height + y - window.top) * window.width * classes;
        T* target = to + ((n * height + y) * width + window.left) * classes;
        for (int64_t i = 0; i < window.width * classes; ++i) target[i] += source[i];
      }
    }
  });
}

// How many windows cover each row or column.
std::vector<int64_t> coverage(const std::vector<Window>& windows, int64_t extent, bool rows) {
  std::vector<int64_t> starts, counts(size_t(extent), 0);
  const int64_t length = rows ? windows[0].height : windows[0].width;
  for (const Window& window : windows) {
    const int64_t start = rows ? window.top : window.left;
    if (std::find(starts.begin(), starts.end(), start) == starts.end()) starts.push_back(start);
  }
  for (int64_t start : starts) {
    for (int64_t i = start; i < start + length; ++i) ++counts[size_t(i)];
  }
  return counts;
}

Tensor slide_scores(EncoderDecoder& model, const Tensor& images, const EvaluateOptions& options) {
  const int64_t count = images.size(0), height = images.size(1), width = images.size(2);
  const std::vector<Window> windows = slide_windows(height, width, options);
  Tensor sums;
  for (int64_t n = 0; n < count; ++n) {
    for (size_t begin = 0; begin < windows.size(); begin += size_t(options.batch_size)) {
      const size_t end = std::min(windows.size(), begin + size_t(options.batch_size));
      const std::vector<Window> part(windows.begin() + int64_t(begin), windows.begin() + int64_t(end));
      const Tensor scores = whole_scores(model, cut_windows(images, n, part)).to(Device::cpu());
      if (!sums.defined()) sums = Tensor::zeros({count, height, width, scores.size(3)}, scores.dtype());
      dispatch_floating(scores.dtype(), "slide", [&]<class T>() { add_windows<T>(scores, part, n, sums); });
    }
  }
  const std::vector<int64_t> rows = coverage(windows, height, true), columns = coverage(windows, width, false);
  const int64_t classes = sums.size(3);
  dispatch_floating(sums.dtype(), "slide", [&]<class T>() {
    T* values = sums.data<T>();
    parallel_for(count * height, grain_for(width * classes), [&](int64_t begin, int64_t end) {
      for (int64_t y = begin; y < end; ++y) {
        for (int64_t x = 0; x < width; ++x) {
          const T covered = T(rows[size_t(y % height)] * columns[size_t(x)]);
          for (int64_t k = 0; k < classes; ++k) values[(y * width + x) * classes + k] /= covered;
        }
      }
    });
  });
  return sums;
}

}  // namespace

std::vector<Window> slide_windows(int64_t height, int64_t width, const EvaluateOptions& options) {
  if (options.stride[0] > options.crop[0] || options.stride[1] > options.crop[1]) {
    throw UsageError(fmt::format("a stride of {} x {} leaves gaps between windows of {} x {}", options.stride[0], options.stride[1],
                                 options.crop[0], options.crop[1]),
                     "evaluate.stride", "use two thirds of evaluate.crop");
  }
  const int64_t window_h = std::min(height, options.crop[0]), window_w = std::min(width, options.crop[1]);
  const auto steps = [](int64_t extent, int64_t window, int64_t stride) { return (extent - window + stride - 1) / stride + 1; };
  std::vector<Window> windows;
  for (int64_t i = 0; i < steps(height, window_h, options.stride[0]); ++i) {
    for (int64_t j = 0; j < steps(width, window_w, options.stride[1]); ++j) {
      windows.push_back({.top = std::min(i * options.stride[0], height - window_h),
                         .left = std::min(j * options.stride[1], width - window_w),
                         .height = window_h,
                         .width = window_w});
    }
  }
  return windows;
}

Tensor predict_scores(EncoderDecoder& model, const Tensor& images, const EvaluateOptions& options) {
  NoGradGuard no_grad;
  if (options.mode == "whole") return whole_scores(model, images);
  if (options.mode == "slide") return slide_scores(model, images, options);
  throw UsageError("there is no evaluation mode '" + options.mode + "'", "evaluate.mode", "use whole or slide");
}

Tensor predict_classes(EncoderDecoder& model, const Tensor& images, int64_t height, int64_t width, const EvaluateOptions& options) {
  NoGradGuard no_grad;
  Tensor scores = predict_scores(model, images, options);
  if (scores.size(1) != height || scores.size(2) != width) scores = resize_bilinear(scores, height, width, model.align_corners());
  return argmax_classes(scores);
}

EvalResult evaluate(EncoderDecoder& model, const Dataset& dataset, const EvalRequest& request) {
  if (dataset.size() == Dataset::kEndless && request.limit <= 0) {
    throw UsageError("an endless set cannot be evaluated as a whole", "evaluate", "choose the val split");
  }
  if (model.options().num_classes != dataset.num_classes()) {
    throw DataError(fmt::format("the network has {} classes, the data set {}", model.options().num_classes, dataset.num_classes()), "evaluation",
                    "evaluate on the data that the network was trained for, or map its labels with data.label_map");
  }
  const auto start = std::chrono::steady_clock::now();
  EvalMode mode(model);
  NoGradGuard no_grad;
  allocator(model.device()).reset_peak();
  ConfusionMatrix matrix(dataset.num_classes(), dataset.ignore_index());
  EvalResult result;
  const int64_t total = request.limit > 0 ? std::min(request.limit, dataset.size()) : dataset.size();
  // One thread decodes the next picture while this one computes.
  const auto load = [&](int64_t index) {
    return std::async(std::launch::async, [&dataset, &request, index] {
      SerialScope serial;
      return load_for_evaluation(dataset, index, request.pipeline);
    });
  };
  std::future<Sample> next;
  if (total > 0) next = load(0);
  const auto take = [&](int64_t index) {
    Sample sample = next.get();
    if (index + 1 < total) next = load(index + 1);
    return sample;
  };
  std::vector<Sample> group;  // pictures of one size, one forward pass
  const auto run_group = [&] {
    if (group.empty()) return;
    const Shape& shape = group[0].image.shape();
    Tensor images = group[0].image;
    if (group.size() > 1) {
      images = Tensor::empty({int64_t(group.size()), shape[1], shape[2], shape[3]}, images.dtype());
      for (size_t i = 0; i < group.size(); ++i) {
        std::memcpy(static_cast<uint8_t*>(images.raw_data()) + i * group[i].image.bytes(), group[i].image.raw_data(), group[i].image.bytes());
      }
    }
    const int64_t height = group[0].labels.size(0), width = group[0].labels.size(1);
    const Tensor classes = naming_picture([&] { return dataset.describe(group[0].index); },
                                          [&] { return predict_classes(model, images, height, width, request.options); });
    for (size_t i = 0; i < group.size(); ++i) {
      const Tensor predictions = classes.alias({height, width}, int64_t(i) * height * width);
      matrix.add(group[i].labels, predictions, dataset.describe(group[i].index));
      if (request.on_picture) request.on_picture(group[i].index, group[i].labels, predictions);
    }
    result.pictures += int64_t(group.size());
    group.clear();
  };
  for (int64_t index = 0; index < total; ++index) {
    if (request.stop && request.stop()) {
      result.stopped = true;
      break;
    }
    Sample sample = take(index);
    const bool fits = group.empty() || (sample.image.shape() == group[0].image.shape() && sample.labels.shape() == group[0].labels.shape());
    if (!fits) run_group();
    group.push_back(std::move(sample));
    if (int64_t(group.size()) >= (request.options.mode == "whole" ? request.options.batch_size : 1)) run_group();
  }
  run_group();
  result.metrics = matrix.metrics(dataset.class_names());
  result.peak_bytes = allocator(model.device()).stats().peak_bytes;
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace eq
