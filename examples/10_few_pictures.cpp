// Lesson 10: few pictures.
//
// Lesson 8 drew new scenes for ever. Who labels pictures by hand has fifty. Then a network has two ways to a small
// loss: learn what a disc is, or learn these pictures by heart. The loss cannot tell them apart. Only pictures that
// training has not seen can:
//
//   gap = mIoU on the pictures trained on - mIoU on unseen ones
//
// So keep some pictures out before anything else (data.val_fraction). And a caution: who picks a rate, a step or an
// augmentation by the score on them has learnt from them, too. For a number that others shall believe keep a third
// part, and look at it once.
//
// Two cures are tried here, from the same weights, with the same number of steps:
//   augmentation    Each time a picture is drawn it is mirrored and turned at random: eight ways to look at a scene,
//                   and its labels with it. That is right where what is asked does not change: a disc upside down is
//                   a disc (a street upside down is no street). Learning by heart gets harder, learning does not.
//   more pictures   The best cure, and the dearest.
// Look at the columns: with eight pictures the loss is nearly gone, and two fifths of the score are by heart.
// Augmented, the network gets worse on what it has seen and better on what it has not. Eight times as many pictures
// do more. One seed each: lesson 14 says how to tell a difference from chance, and the last one here needs that.
//
// A third cure needs weights that have learnt elsewhere: model.backbone.pretrained, model.init_from.
//
// Exercise: let the colours vary as well (photometric). Which classes gain, which lose, and why?
#include <cstdio>

#include "autograd/node.h"
#include "datasets/loader.h"
#include "datasets/shapes.h"
#include "layers/layers.h"
#include "training/metrics.h"
#include "training/optimizer.h"

using namespace eq;

constexpr int64_t kSide = 64;
constexpr int kSteps = 200;

// Lesson 8's.
void build(Sequential& net, int64_t num_classes) {
  net.append<ConvModule>(3, 16, 3);
  net.append<MaxPool2d>(2, 2);
  net.append<ConvModule>(16, 32, 3);
  net.append<ConvModule>(32, 32, 3, 2);
  net.append<ConvModule>(32, 32, 3, 4);
  net.append<Conv2d>(32, num_classes, Conv2dLayerOptions{});
  net.append<Upsample>(2, false);
}

SegmentationMetrics evaluate(Sequential& net, const Dataset& scenes) {
  const NoGradGuard no_grad;
  net.eval();
  ConfusionMatrix confusion(scenes.num_classes(), scenes.ignore_index());
  for (int64_t i = 0; i < scenes.size(); ++i) {
    const Sample sample = load_for_evaluation(scenes, i, {});
    confusion.add(sample.labels, reshape(argmax_classes(net(sample.image)), {kSide, kSide}));
  }
  net.train();
  return confusion.metrics(scenes.class_names());
}

struct Scores {
  double seen = 0, unseen = 0;
};

// Trains a network on `count` scenes and prints how well it knows these and others.
Scores learn(int64_t count, const PipelineOptions& pipeline, const char* how) {
  const ShapesDataset scenes(kShapesSeed, "train", kSide, count), unseen(kShapesSeed, "val", kSide, 50);
  const InitRandom same_weights(1);
  Sequential net;
  build(net, scenes.num_classes());
  DataLoader loader(scenes, pipeline, {.batch_size = 8});
  const auto optimizer = make_optimizer(optimizer_parameters(net), {.type = "adamw"});
  Scores scores;
  for (int step = 1; step <= kSteps; ++step) {
    const Batch batch = loader.next();
    const Tensor loss = cross_entropy(net(batch.images), batch.labels);
    net.zero_grad();
    loss.backward();
    optimizer->step(1e-2 * (1 - double(step - 1) / kSteps));
    if (step != kSteps / 4 && step != kSteps) continue;
    const SegmentationMetrics known = evaluate(net, scenes), fresh = evaluate(net, unseen);
    scores = {100 * known.miou, 100 * fresh.miou};
    std::printf("%8d  %-16s %4d   %.3f %12.1f %8.1f %6.1f\n", int(count), how, step, loss.item(), scores.seen, scores.unseen,
                scores.seen - scores.unseen);
  }
  return scores;
}

int main() {
  const PipelineOptions plain{.flip = 0, .photometric = false};
  PipelineOptions turned = plain;
  turned.flip = turned.vertical_flip = 0.5;
  turned.rotate90 = 0.75;  // by each of the four angles equally often
  std::printf("pictures  %-16s step    loss   mIoU on them   unseen    gap\n", "");
  const Scores few = learn(8, plain, "as they are"), few_turned = learn(8, turned, "mirrored, turned");
  const Scores many = learn(64, plain, "as they are"), many_turned = learn(64, turned, "mirrored, turned");
  const bool by_heart = few.seen > 90 && few.seen - few.unseen > 25;
  const bool cured = few_turned.seen < few.seen && few_turned.unseen > few.unseen + 5 && many.unseen > few_turned.unseen + 5;
  const bool ok = by_heart && cured && many_turned.unseen > many.unseen;
  std::printf("self-check: %s\n", ok ? "passed" : "FAILED");
  return ok ? 0 : 1;
}
