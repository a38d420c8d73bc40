// Lesson 9: what to minimise, and what to believe.
//
// Ignore. Some pixels have no right answer: borders, objects outside the list. They are labelled 255, and neither
// loss nor metric may see them.
//
// Imbalance. In Shapes-8 five pixels in eight are background and one in fifty is a dot. Cross entropy listens to
// pixels, so its gradient is mostly about background. Three cures, tried on an answer that is the same everywhere and
// has begun to notice which classes are common (their probabilities go with the square root of their shares):
//   class weights   multiply each pixel's loss by a weight of its class, such as 1 / share
//   OHEM            online hard example mining: the network's own answer says which pixels it has learnt (here: those with
//                   0.3 of their class's probability or more), and these are labelled 255
//   Dice            1 - 2 sum(p y) / (sum p + sum y) for each class: an overlap, so a small class counts as much
//
// In a configuration: train.class_weights, train.ohem, train.dice_weight.
//
// Metrics. Count a confusion matrix: rows truth, columns prediction. Then for each class
//   accuracy = diagonal / row             IoU = diagonal / (row + column - diagonal)
// and mIoU is the mean of IoU. Overall accuracy misleads: see what an answer gets that finds half of one class.
//
// Wrong labels. No loss can mend them, and few of them crash. Shapes-8 can spoil its own (data.wrong_labels). The
// checks before training catch values off by one and masks of 0 and 255. A palette with red and blue exchanged passes
// every count: only the eye sees it. So look at overlays, such as 09_wrong_labels.png, before training.
//
// Exercise: mend the shifted labels with a label map (DataOptions::label_map, preset "minus_one_zero_ignored").
#include <cmath>
#include <cstdio>
#include <functional>

#include "autograd/functional.h"
#include "core/errors.h"
#include "core/file.h"
#include "datasets/inspect.h"
#include "datasets/shapes.h"
#include "datasets/transforms.h"
#include "training/metrics.h"

using namespace eq;

constexpr int64_t kClasses = 8;
const ShapesDataset kScenes(kShapesSeed, "val", 64, 20);

Tensor all_labels() {
  std::vector<uint8_t> labels;
  for (int64_t i = 0; i < kScenes.size(); ++i) {
    const std::vector<uint8_t> some = kScenes.load(i).labels.labels;
    labels.insert(labels.end(), some.begin(), some.end());
  }
  return Tensor::from(labels, {int64_t(labels.size())});
}

// How much of the gradient each class's pixels get, in percent; the last entry is what ignored pixels get.
using Loss = std::function<Tensor(const Tensor& scores, const Tensor& labels)>;
std::vector<double> gradient_shares(const Loss& loss, const Tensor& labels, const Tensor& shares) {
  const Tensor z = expand(log(shares) / 2, {labels.numel(), kClasses}).set_requires_grad();
  loss(z, labels).backward();
  std::vector<double> result(kClasses + 1);
  const double total = sum(abs(z.grad())).item();
  for (int64_t i = 0; i < z.numel(); ++i) {
    const uint8_t label = labels.data<uint8_t>()[i / kClasses];
    result[label == kIgnoreIndex ? kClasses : label] += 100 / total * std::abs(z.grad().value_at(i));
  }
  return result;
}

bool imbalance(const Tensor& labels) {
  const std::vector<int64_t> pixels = inspect_dataset(kScenes).class_pixels;
  const auto counts = Tensor::from(std::vector<float>(pixels.begin(), pixels.end()), {kClasses});
  const Tensor shares = counts / sum(counts);
  const CrossEntropyOptions weighted{.class_weights = reciprocal(shares)};
  const Loss losses[] = {
      [](const auto& z, const auto& y) { return cross_entropy(z, y); },
      [&](const auto& z, const auto& y) { return cross_entropy(z, y, weighted); },
      [](const auto& z, const auto& y) { return cross_entropy(z, hard_examples(z, y, {.threshold = 0.3, .min_kept = 0})); },
      [](const auto& z, const auto& y) { return dice_loss(z, y); }};
  std::vector<std::vector<double>> columns;
  for (const Loss& loss : losses) columns.push_back(gradient_shares(loss, labels, shares));
  std::printf("share in %%:    pixels   gradient of: plain  weighted   OHEM    Dice\n");
  for (size_t c = 0; c < kClasses; ++c) {
    std::printf("  %-12s %6.1f %20.1f %9.1f %6.1f %7.1f\n", kScenes.class_names()[c].c_str(),
                100 * shares.value_at(int64_t(c)), columns[0][c], columns[1][c], columns[2][c], columns[3][c]);
  }
  bool ok = columns[2][0] == 0;  // background is answered well enough
  for (const auto& column : columns) ok &= column[kClasses] == 0;  // nothing for ignored pixels
  return ok && columns[1][6] > 4 * columns[0][6] && columns[3][6] > 1.5 * columns[0][6];
}

// An answer that finds half of the regions and calls everything else background.
bool metrics_by_hand(const Tensor& labels) {
  const Tensor answer = Tensor::zeros(labels.shape(), DType::kUInt8);
  double counts[kClasses][kClasses] = {}, rows[kClasses] = {}, columns[kClasses] = {}, right = 0, all = 0, miou = 0;
  for (int64_t i = 0; i < labels.numel(); ++i) {
    const uint8_t truth = labels.data<uint8_t>()[i], said = truth == 1 && i % 2 == 0;
    answer.data<uint8_t>()[i] = said;
    if (truth == kIgnoreIndex) continue;
    ++counts[truth][said], ++rows[truth], ++columns[said], ++all;
    right += truth == said;
  }
  for (int c = 0; c < kClasses; ++c) miou += counts[c][c] / (rows[c] + columns[c] - counts[c][c]) / kClasses;
  ConfusionMatrix library(kClasses, kIgnoreIndex);
  library.add(labels, answer);
  const SegmentationMetrics metrics = library.metrics(kScenes.class_names());
  const double accuracy = right / all;
  std::printf("half of the regions, else background: accuracy %.1f %%, mIoU %.1f %%\n", 100 * accuracy, 100 * miou);
  return accuracy > 0.6 && miou < 0.2 && std::abs(accuracy - metrics.aacc) + std::abs(miou - metrics.miou) < 1e-12;
}

bool wrong_labels(const std::string& picture) {
  std::vector<Image> shown;
  std::string caught;
  for (const char* kind : {"", "shift", "binary", "swapped"}) {
    const auto scenes = make_shapes({.wrong_labels = kind}, "train");
    std::printf("  %-8s ", *kind ? kind : "right");
    try {
      check_report(inspect_dataset(*scenes, {.samples = 64}));
      std::printf("passes the checks\n");
      const RawSample sample = scenes->load(5);
      const Image painted = overlay(sample.image, sample.labels, scenes->palette(), kIgnoreIndex, 0.7);
      shown.push_back(resize_bilinear(painted, {240, 240}));
    } catch (const DataError& error) {
      std::printf("%s\n", error.what_happened().c_str());
      caught += kind;
    }
  }
  write_png(picture, side_by_side(shown));
  return caught == "shiftbinary" && shown.size() == 2;
}

int main(int argc, char** argv) try {
  const std::string folder = argc > 1 ? argv[1] : ".";
  make_folder(folder);
  const Tensor labels = all_labels();
  bool ok = imbalance(labels);
  ok &= metrics_by_hand(labels);
  ok &= wrong_labels(folder + "/09_wrong_labels.png");
  std::printf("self-check: %s\n", ok ? "passed" : "FAILED");
  return ok ? 0 : 1;
} catch (const Error& error) {  // what, where, what to try
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
