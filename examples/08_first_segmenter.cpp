// Lesson 8: the first segmenter.
//
// Segmentation gives every pixel a class. A fully convolutional network (FCN; Long, Shelhamer and Darrell, 2015) does
// so with nothing but layers that work on pictures of any size: convolutions make features, pooling halves the
// picture so that the next convolutions see further, a 1x1 convolution turns features into one score a class, and
// bilinear upsampling (lesson 6) brings the scores back to the picture's size. The loss is the cross entropy of
// lesson 4, averaged over pixels.
//
// Overfit one batch first. A network with more weights than four pictures have secrets must be able to learn them by
// heart. If the loss does not fall to nearly zero within a minute, something is broken: labels shifted against
// pictures, a gradient cut off, a learning rate off by ten. Find that out now, not after a night of training.
//
// Only then train on the endless stream of Shapes-8 scenes, and judge by pictures that training has never seen. The
// table gives for each class IoU = intersection / union of prediction and truth; lesson 9 says why that and not
// accuracy. The picture shows scene, truth, prediction for three scenes. Look at it before the numbers: thin strokes
// come out fat or broken, because the network works on a quarter of the pixels.
//
// Exercise: take the pooling out (and the Upsample). Strokes get much better, discs and twins much worse. Why?
#include <cstdio>

#include "autograd/node.h"
#include "core/errors.h"
#include "core/file.h"
#include "datasets/loader.h"
#include "datasets/shapes.h"
#include "layers/layers.h"
#include "training/metrics.h"
#include "training/optimizer.h"

using namespace eq;

constexpr int64_t kSide = 64;

void build(Sequential& net, int64_t num_classes) {
  net.append<ConvModule>(3, 16, 3);  // convolution, batch norm, relu
  net.append<MaxPool2d>(2, 2);
  net.append<ConvModule>(16, 32, 3);
  net.append<ConvModule>(32, 32, 3, 2);  // dilation 2: the 3x3 window is spread over 5x5
  net.append<ConvModule>(32, 32, 3, 4);
  net.append<Conv2d>(32, num_classes, Conv2dLayerOptions{});
  net.append<Upsample>(2, false);
}

struct Step {
  double loss = 0, accuracy = 0;
};

Step train_step(Sequential& net, Optimizer& optimizer, const Batch& batch, double lr) {
  const Tensor scores = net(batch.images);
  const Tensor loss = cross_entropy(scores, batch.labels);
  net.zero_grad();
  loss.backward();
  optimizer.step(lr);
  ConfusionMatrix confusion(scores.size(3), kIgnoreIndex);
  confusion.add(batch.labels, argmax_classes(scores));
  return {loss.item(), confusion.metrics(std::vector<std::string>(size_t(scores.size(3)))).aacc};
}

void report(int i, const Step& step) {
  if (i != 1 && i % 50 != 0) return;
  std::printf("  step %3d  loss %.3f  %.1f %% of the pixels right\n", i, step.loss, 100 * step.accuracy);
}

double overfit_one_batch(const Batch& batch, int64_t num_classes) {
  const InitRandom weights(1);
  Sequential net;
  build(net, num_classes);
  const auto optimizer = make_optimizer(optimizer_parameters(net), {.type = "adamw"});
  Step step;
  for (int i = 1; i <= 100; ++i) {
    step = train_step(net, *optimizer, batch, 1e-2);
    report(i, step);
  }
  return step.accuracy;
}

SegmentationMetrics evaluate(Sequential& net, const Dataset& scenes, const PipelineOptions& pipeline,
                             const std::string& picture) {
  const NoGradGuard no_grad;
  net.eval();
  ConfusionMatrix confusion(scenes.num_classes(), scenes.ignore_index());
  std::vector<Image> shown;
  for (int64_t i = 0; i < scenes.size(); ++i) {
    const Sample sample = load_for_evaluation(scenes, i, pipeline);
    const Tensor predicted = argmax_classes(net(sample.image));
    confusion.add(sample.labels, reshape(predicted, {kSide, kSide}));
    if (i >= 3) continue;
    const RawSample raw = scenes.load(i);
    const LabelMap answer{kSide, kSide, predicted.to_vector<uint8_t>()};
    shown.push_back(raw.image);
    shown.push_back(colorize(raw.labels, scenes.palette(), scenes.ignore_index()));
    shown.push_back(overlay(raw.image, answer, scenes.palette(), scenes.ignore_index(), 0.8));
  }
  for (Image& image : shown) image = resize_bilinear(image, {2 * kSide, 2 * kSide});
  write_png(picture, side_by_side(shown));
  return confusion.metrics(scenes.class_names());
}

int main(int argc, char** argv) try {
  const std::string folder = argc > 1 ? argv[1] : ".";
  make_folder(folder);
  const ShapesDataset scenes(kShapesSeed, "train", kSide, Dataset::kEndless), unseen(kShapesSeed, "val", kSide, 50);
  PipelineOptions pipeline;
  pipeline.photometric = false;

  DataLoader four(scenes, pipeline, {.batch_size = 4});
  std::printf("learning four pictures by heart\n");
  const double by_heart = overfit_one_batch(four.next(), scenes.num_classes());

  constexpr int kSteps = 200;
  std::printf("learning from %d batches of eight\n", kSteps);
  const InitRandom weights(1);
  Sequential net;
  build(net, scenes.num_classes());
  std::printf("  %d parameters\n", int(net.parameter_count()));
  DataLoader loader(scenes, pipeline, {.batch_size = 8});
  const auto optimizer = make_optimizer(optimizer_parameters(net), {.type = "adamw"});
  for (int i = 1; i <= kSteps; ++i) {
    const Step step = train_step(net, *optimizer, loader.next(), 1e-2 * (1 - double(i - 1) / kSteps));
    report(i, step);
  }
  const SegmentationMetrics metrics = evaluate(net, unseen, pipeline, folder + "/08_first_segmenter.png");
  std::printf("%s", to_table(metrics).c_str());
  const bool ok = by_heart > 0.95 && metrics.miou > 0.6;
  std::printf("self-check: %s\n", ok ? "passed" : "FAILED");
  return ok ? 0 : 1;
} catch (const Error& error) {  // what, where, what to try
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
