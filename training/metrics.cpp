#include "training/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "autograd/functional.h"
#include "core/errors.h"
#include "core/parallel.h"

namespace eq {
namespace {

constexpr double kAbsent = std::numeric_limits<double>::quiet_NaN();

double ratio(int64_t part, int64_t whole) { return whole > 0 ? double(part) / double(whole) : kAbsent; }

std::string percent(double value) { return std::isnan(value) ? "absent" : fmt::format("{:.2f}", value * 100); }

// Cells centred between bars, as mmsegmentation prints them.
std::string text_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths(rows[0].size(), 0);
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string rule = "+";
  for (size_t width : widths) rule += std::string(width + 2, '-') + "+";
  std::string text = rule + "\n";
  for (size_t r = 0; r < rows.size(); ++r) {
    text += "|";
    for (size_t i = 0; i < rows[r].size(); ++i) text += fmt::format(" {:^{}} |", rows[r][i], widths[i]);
    text += "\n";
    if (r == 0) text += rule + "\n";
  }
  return text + rule + "\n";
}

}  // namespace

ConfusionMatrix::ConfusionMatrix(int64_t num_classes, int64_t ignore_index)
    : num_classes_(num_classes), ignore_index_(ignore_index), counts_(size_t(std::max<int64_t>(0, num_classes * num_classes)), 0) {
  if (num_classes < 1 || num_classes > 256) {
    throw UsageError("a confusion matrix of " + std::to_string(num_classes) + " classes", "ConfusionMatrix", "1 to 256 are possible");
  }
}

int64_t ConfusionMatrix::count(int64_t label, int64_t prediction) const {
  for (const int64_t index : {label, prediction}) {
    if (index >= 0 && index < num_classes_) continue;
    throw UsageError("there is no class " + std::to_string(index), "ConfusionMatrix::count", "use 0 to " + std::to_string(num_classes_ - 1));
  }
  return counts_[size_t(label * num_classes_ + prediction)];
}

void ConfusionMatrix::add(const Tensor& labels, const Tensor& predictions, const std::string& where) {
  if (!(labels.shape() == predictions.shape())) {
    throw ShapeError("labels " + describe(labels) + " and predictions " + describe(predictions) + " differ in shape",
                     "ConfusionMatrix::add", "resize the scores to the label's size first");
  }
  const uint8_t* label = labels.data<uint8_t>();
  const uint8_t* prediction = predictions.data<uint8_t>();
  struct Part {
    std::vector<int64_t> counts;
    int64_t ignored = 0, bad = -1;  // bad: first position that may not be
  };
  // Few large chunks: each holds a matrix of its own.
  const int64_t count = labels.numel();
  const int64_t grain = std::max<int64_t>(65536, (count + 15) / 16);
  std::vector<Part> parts(size_t((count + grain - 1) / grain));
  parallel_for(count, grain, [&](int64_t begin, int64_t end) {
    Part& part = parts[size_t(begin / grain)];
    part.counts.assign(counts_.size(), 0);
    for (int64_t i = begin; i < end; ++i) {
      if (int64_t(label[i]) == ignore_index_) {
        ++part.ignored;
      } else if (label[i] < num_classes_ && prediction[i] < num_classes_) {
        ++part.counts[size_t(label[i] * num_classes_ + prediction[i])];
      } else {
        part.bad = i;
        return;
      }
    }
  });
  for (const Part& part : parts) {
    if (part.bad < 0) continue;
    std::string pixel = "element " + std::to_string(part.bad);
    if (labels.rank() >= 2) {
      const int64_t width = labels.size(-1), height = labels.size(-2);
      pixel = "pixel x " + std::to_string(part.bad % width) + ", y " + std::to_string(part.bad / width % height);
    }
    if (label[part.bad] >= num_classes_) {
      throw DataError("the label " + std::to_string(label[part.bad]) + " is outside the classes 0.." + std::to_string(num_classes_ - 1) +
                          " and is not the ignored value " + std::to_string(ignore_index_),
                      where.empty() ? pixel : where + ", " + pixel, "map it to a class or to ignore in data.label_map");
    }
    throw UsageError("the prediction " + std::to_string(prediction[part.bad]) + " is outside the classes", pixel,
                     "predictions are class indices");
  }
  for (const Part& part : parts) {
    for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += part.counts[i];
    ignored_ += part.ignored;
  }
}

void ConfusionMatrix::add(const ConfusionMatrix& other) {
  if (other.num_classes_ != num_classes_) {
    throw UsageError(fmt::format("confusions of {} classes cannot be added to those of {}", other.num_classes_, num_classes_),
                     "ConfusionMatrix::add", "count both with the same classes");
  }
  for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
  ignored_ += other.ignored_;
}

int64_t ConfusionMatrix::labelled() const { return std::accumulate(counts_.begin(), counts_.end(), int64_t(0)); }

ClassCounts ConfusionMatrix::counts_of(int64_t index) const {
  ClassCounts counts{.index = index, .both = count(index, index)};
  for (int64_t k = 0; k < num_classes_; ++k) counts.labelled += count(index, k), counts.predicted += count(k, index);
  return counts;
}

std::vector<ClassCounts> ConfusionMatrix::class_counts() const {
  std::vector<ClassCounts> all;
  for (int64_t c = 0; c < num_classes_; ++c) {
    const ClassCounts counts = counts_of(c);
    if (counts.labelled + counts.predicted > 0) all.push_back(counts);
  }
  return all;
}

SegmentationMetrics ConfusionMatrix::metrics(const std::vector<std::string>& class_names) const {
  if (int64_t(class_names.size()) != num_classes_) {
    throw UsageError("there are " + std::to_string(class_names.size()) + " class names for " + std::to_string(num_classes_) + " classes",
                     "ConfusionMatrix::metrics", "name every class");
  }
  SegmentationMetrics result;
  result.ignored_pixels = ignored_;
  int64_t correct = 0, in_labels = 0;
  double iou_sum = 0, acc_sum = 0, dice_sum = 0;
  for (int64_t c = 0; c < num_classes_; ++c) {
    const auto [index, both, labelled, predicted] = counts_of(c);
    ClassMetrics metrics{class_names[size_t(c)], ratio(both, labelled + predicted - both),
                         ratio(both, labelled),  ratio(2 * both, labelled + predicted),
                         ratio(both, predicted), labelled};
    if (!metrics.absent()) iou_sum += metrics.iou, dice_sum += metrics.dice, ++result.classes_in_mean;
    if (labelled > 0) acc_sum += metrics.acc, ++in_labels;
    correct += both;
    result.pixels += labelled;
    result.classes.push_back(std::move(metrics));
  }
  result.aacc = ratio(correct, result.pixels);
  result.miou = result.classes_in_mean > 0 ? iou_sum / double(result.classes_in_mean) : kAbsent;
  result.mdice = result.classes_in_mean > 0 ? dice_sum / double(result.classes_in_mean) : kAbsent;
  result.macc = in_labels > 0 ? acc_sum / double(in_labels) : kAbsent;
  return result;
}

Tensor argmax_classes(const Tensor& logits) {
  if (logits.rank() < 1 || logits.size(-1) < 1 || logits.size(-1) > 256) {
    throw ShapeError("scores " + describe(logits) + " have no last axis of 1 to 256 classes", "argmax_classes", "give [..., classes]");
  }
  if (logits.device().is_cuda()) return argmax(logits, -1).to(DType::kUInt8).to(Device::cpu());
  const int64_t classes = logits.size(-1), positions = logits.numel() / classes;
  Shape shape(std::span<const int64_t>(logits.shape().begin(), size_t(logits.rank() - 1)));
  Tensor result = Tensor::empty(shape, DType::kUInt8);
  uint8_t* out = result.data<uint8_t>();
  dispatch_floating(logits.dtype(), "argmax_classes", [&]<class T>() {
    const T* scores = logits.template data<T>();
    parallel_for(positions, grain_for(classes), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* row = scores + i * classes;
        int64_t best = 0;
        for (int64_t k = 1; k < classes && row[best] == row[best]; ++k) {
          if (!(row[k] <= row[best])) best = k;
        }
        out[i] = uint8_t(best);
      }
    });
  });
  return result;
}

std::string to_table(const SegmentationMetrics& metrics) {
  std::vector<std::vector<std::string>> rows = {{"Class", "IoU", "Acc", "Dice", "Precision", "Pixels"}};
  for (const ClassMetrics& c : metrics.classes) {
    const bool never_found = !c.absent() && std::isnan(c.precision);
    rows.push_back(
        {c.name, percent(c.iou), percent(c.acc), percent(c.dice), never_found ? "-" : percent(c.precision), std::to_string(c.pixels)});
  }
  std::vector<std::vector<std::string>> means = {
      {"aAcc", "mIoU", "mAcc", "mDice"}, {percent(metrics.aacc), percent(metrics.miou), percent(metrics.macc), percent(metrics.mdice)}};
  if (!std::isnan(metrics.cross_entropy)) {
    means[0].push_back("Cross-entropy");
    means[1].push_back(fmt::format("{:.4f}", metrics.cross_entropy));
  }
  return text_table(rows) + text_table(means) +
         fmt::format("({} of {} classes in the mean)\n", metrics.classes_in_mean, metrics.classes.size());
}

}  // namespace eq
