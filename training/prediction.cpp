#include "training/prediction.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/errors.h"
#include "core/finite.h"
#include "core/parallel.h"
#include "training/config.h"
#include "training/metrics.h"

namespace eq {
namespace {

// Scores of the pictures' own size.
Tensor whole_scores(EncoderDecoder& model, const Tensor& images) {
  const Tensor logits = model.forward(images).logits;
  if (!all_finite(logits)) {  // before they are resized: few
    throw NumericalError(
        "the network's scores are not finite: its weights or running statistics have diverged", "evaluation",
        "go back to an earlier checkpoint, lower optimizer.lr or set train.clip_norm; in a program see that the pictures are finite");
  }
  return resize_bilinear(logits, images.size(1), images.size(2), model.align_corners());
}

// [N,H,W,C] of the host -> the windows of picture n, one after the other.
Tensor cut_windows(const Tensor& images, int64_t n, const std::vector<Window>& windows) {
  const int64_t height = windows[0].height, width = windows[0].width, channels = images.size(3);
  Tensor result = Tensor::empty({int64_t(windows.size()), height, width, channels}, images.dtype());
  const size_t row_bytes = size_t(width * channels) * size_of(images.dtype());
  const auto* from = static_cast<const uint8_t*>(images.raw_data());
  auto* to = static_cast<uint8_t*>(result.raw_data());
  for (size_t w = 0; w < windows.size(); ++w) {
    for (int64_t y = 0; y < height; ++y) {
      const int64_t pixel = (n * images.size(1) + windows[w].top + y) * images.size(2) + windows[w].left;
      std::memcpy(to + (int64_t(w) * height + y) * int64_t(row_bytes), from + size_t(pixel * channels) * size_of(images.dtype()),
                  row_bytes);
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

void check_gaps(const EvaluateOptions& options) {
  if (options.stride[0] > options.crop[0] || options.stride[1] > options.crop[1]) {
    throw UsageError(fmt::format("a stride of {} x {} leaves gaps between windows of {} x {}", options.stride[0], options.stride[1],
                                 options.crop[0], options.crop[1]),
                     "evaluate.stride", "use two thirds of evaluate.crop");
  }
}

// Of options that are checked.
std::vector<Window> windows_of(int64_t height, int64_t width, const EvaluateOptions& options) {
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

Tensor slide_scores(EncoderDecoder& model, const Tensor& pictures, const EvaluateOptions& options) {
  const Tensor images = pictures.to(Device::cpu());
  const int64_t count = images.size(0), height = images.size(1), width = images.size(2);
  const std::vector<Window> windows = windows_of(height, width, options);
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

// [N,H,W,C] with the columns in the other order, on the host.
Tensor mirrored(const Tensor& pictures) {
  const Tensor images = pictures.to(Device::cpu());
  Tensor result = Tensor::empty_like(images);
  const int64_t width = images.size(2);
  const size_t pixel = size_t(images.size(3)) * size_of(images.dtype());
  const auto* from = static_cast<const uint8_t*>(images.raw_data());
  auto* to = static_cast<uint8_t*>(result.raw_data());
  for (int64_t row = 0; row < images.size(0) * images.size(1); ++row) {
    for (int64_t x = 0; x < width; ++x) {
      std::memcpy(to + size_t(row * width + x) * pixel, from + size_t((row + 1) * width - 1 - x) * pixel, pixel);
    }
  }
  return result;
}

Tensor scores_at(EncoderDecoder& model, const Tensor& images, int64_t height, int64_t width, const EvaluateOptions& options) {
  const Tensor scores = predict_scores(model, images, options);
  return scores.size(1) == height && scores.size(2) == width ? scores : resize_bilinear(scores, height, width, model.align_corners());
}

bool is_single(const std::vector<Tensor>& views, const EvaluateOptions& options) { return views.size() == 1 && !options.flip; }

// Over the views, and their mirror images with options.flip.
Tensor summed_probabilities(EncoderDecoder& model, const std::vector<Tensor>& views, int64_t height, int64_t width,
                            const EvaluateOptions& options) {
  Tensor sum;
  const auto add_view = [&](const Tensor& scores) {
    const Tensor probabilities = softmax(scores.to(Device::cpu()));
    sum = sum.defined() ? add(sum, probabilities) : probabilities;
  };
  for (const Tensor& images : views) {
    add_view(scores_at(model, images, height, width, options));
    if (options.flip) add_view(mirrored(scores_at(model, mirrored(images), height, width, options)));
  }
  return sum;
}

}  // namespace

void check_evaluate(const EvaluateOptions& options) {
  check_config(options);
  if (options.scales.empty()) throw UsageError("a picture must be looked at once at least", "evaluate.scales", "use [1]");
  if (options.mode == "slide") check_gaps(options);
}

std::vector<Window> slide_windows(int64_t height, int64_t width, const EvaluateOptions& options) {
  check_config(options);
  check_gaps(options);
  return windows_of(height, width, options);
}

Tensor predict_scores(EncoderDecoder& model, const Tensor& images, const EvaluateOptions& options) {
  check_evaluate(options);
  if (model.is_training()) {
    throw UsageError("the network is in training mode", "predict_scores",
                     "call model.eval() first: batch norm would take these pictures' statistics, and keep them");
  }
  NoGradGuard no_grad;
  return options.mode == "slide" ? slide_scores(model, images, options) : whole_scores(model, images);
}

std::vector<Tensor> prepare_views(const Image& image, const PipelineOptions& pipeline, const EvaluateOptions& options) {
  check_evaluate(options);
  std::vector<Tensor> views;
  for (double scale : options.scales) views.push_back(prepare_image(image, pipeline, scale));
  return views;
}

Tensor predict_classes(EncoderDecoder& model, const std::vector<Tensor>& views, int64_t height, int64_t width,
                       const EvaluateOptions& options) {
  NoGradGuard no_grad;
  if (is_single(views, options)) return argmax_classes(scores_at(model, views[0], height, width, options));
  return argmax_classes(summed_probabilities(model, views, height, width, options));
}

PixelPrediction predict_pixels(EncoderDecoder& model, const std::vector<Tensor>& views, int64_t height, int64_t width,
                               const EvaluateOptions& options) {
  NoGradGuard no_grad;
  if (is_single(views, options)) {
    const Tensor scores = scores_at(model, views[0], height, width, options);
    return {argmax_classes(scores), scores};
  }
  const Tensor sums = summed_probabilities(model, views, height, width, options);
  const double least = std::numeric_limits<float>::min();  // what every view takes for impossible is not infinitely bad
  return {argmax_classes(sums), log(maximum(sums, Tensor::full({}, least, sums.dtype())))};
}

Tensor predict_probabilities(EncoderDecoder& model, const std::vector<Tensor>& views, int64_t height, int64_t width,
                             const EvaluateOptions& options) {
  NoGradGuard no_grad;
  return summed_probabilities(model, views, height, width, options) / double(views.size() * (options.flip ? 2 : 1));
}

}  // namespace eq
