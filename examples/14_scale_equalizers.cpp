// Lesson 14: scale equalizers, and how to find out whether they help.
//
// The equalizer (Kim and Kim, 2024) is one line per branch of a fusion site: (x - mean) / std, with constants measured
// over training batches before the first step and fixed from then on. After it every branch has mean 0 and deviation 1,
// so that the shares of lesson 13 start equal. The network must be in training mode while it is measured (lesson 7).
//
// Does it help? Two trainings that differ in nothing but the seed differ in mIoU by more than most ideas are worth. So
// one run of each arm proves nothing. Three habits make a small effect visible:
//  - Pairs. Both arms of a pair start from the same weights and see the same batches. What the seed does to both cancels
//    in the difference.
//  - Nothing first. The same arm twice must give a difference of exactly 0. Here arithmetic is deterministic, so it does.
//  - An interval. From differences d_1 .. d_K with mean m and standard deviation s, the true mean lies with 95 %
//    confidence in
//      m +- t s / sqrt(K)       t = 2.776 for K = 5 (Student's distribution with K - 1 degrees of freedom)
//    If it covers zero, the honest sentence is: we do not know. To find an effect of size e with probability 0.8 takes
//    about (2.8 s / e)^2 + 2 pairs: 1.96 + 0.84, the normal points of 97.5 % and of 80 %. (With 2 instead of 2.8 half of
//    such studies would miss it.)
//
// The runs here are toys: a tiny network, 60 steps. Their answer is about toys. `equiscale study run` does the same on
// real data, with as many seeds as you have time for. Choose their number first: who adds pairs until zero is left will
// leave it, if only by chance.
//
// Exercise: spend a minute on 20 pairs (t = 2.093). Does the interval still cover zero, and on which side does it lie?
#include <cmath>
#include <cstdio>

#include "autograd/node.h"
#include "datasets/loader.h"
#include "datasets/shapes.h"
#include "layers/calibration.h"
#include "layers/moments.h"
#include "training/metrics.h"
#include "training/optimizer.h"

using namespace eq;

constexpr int64_t kSide = 64, kLevels = 4, kChannels = 16, kSeeds = 5, kSteps = 60;
constexpr double kStudent = 2.776;  // 97.5 % point, 4 degrees of freedom
const ShapesDataset kScenes(kShapesSeed, "train", kSide, Dataset::kEndless), kUnseen(kShapesSeed, "val", kSide, 40);
const PipelineOptions kPipeline{.photometric = false};

// Four levels, each half the size of the one before, meet at a fusion site. The equalizer is one option of it.
class FusionNet : public Layer {
 public:
  explicit FusionNet(const std::string& equalizer)
      : stem_(register_module<ConvModule>("stem", 3, kChannels, 3)),
        levels_(register_module<ModuleList<ConvModule>>("levels")),
        bottleneck_(register_module<ConvModule>("bottleneck", kLevels * kChannels, kChannels, 3)),
        classifier_(register_module<Conv2d>("classifier", kChannels, kScenes.num_classes(), Conv2dLayerOptions{})) {
    std::vector<FusionSite::Branch> branches;
    for (int64_t i = 0; i < kLevels; ++i) {
      levels_.append(kChannels, kChannels, 3);
      branches.push_back({.name = "level " + std::to_string(i), .channels = kChannels, .upsampled = i > 0});
    }
    const EqualizerOptions options{.mode = equalizer, .batches = 8};
    site_ = &register_module<FusionSite>("site", branches, Upsampling(), options, bottleneck_);
  }
  Tensor forward(const Tensor& x) override {
    Tensor level = stem_(x);
    std::vector<Tensor> levels;
    for (int64_t i = 0; i < kLevels; ++i) {
      level = levels_[size_t(i)](avg_pool2d(level, Pool2dOptions::square(2, 2)));
      levels.push_back(level);
    }
    const Tensor fused = site_->forward(levels, levels[0].size(1), levels[0].size(2));
    return resize_bilinear(classifier_(fused), x.size(1), x.size(2), false);
  }
  FusionSite& site() { return *site_; }

 private:
  ConvModule& stem_;
  ModuleList<ConvModule>& levels_;
  ConvModule& bottleneck_;
  Conv2d& classifier_;
  FusionSite* site_;
};

// Mean and deviation of each branch as the fusion convolution gets it, on batches that calibration has not seen.
bool prints_unit_scale() {
  const InitRandom weights(0);
  FusionNet net("explicit");
  DataLoader loader(kScenes, kPipeline, {.batch_size = 8});
  calibrate_equalizers(net, [&](int64_t) { net(loader.next().images); });
  std::vector<Moments> seen(kLevels);
  net.site().set_observer([&](const LevelSite::Visit& visit) {
    for (int64_t b = 0; b < kLevels; ++b) {
      seen[size_t(b)].merge(pooled(channel_moments(visit.fused(), b * kChannels, (b + 1) * kChannels)));
    }
  });
  for (int i = 0; i < 4; ++i) net(loader.next().images);
  bool ok = true;
  std::printf("after calibration, on new batches\n");
  for (size_t b = 0; b < seen.size(); ++b) {
    std::printf("  level %zu  mean %6.3f  std %.3f\n", b, seen[b].mean, seen[b].standard_deviation());
    ok &= std::abs(seen[b].mean) < 0.05 && std::abs(seen[b].standard_deviation() - 1) < 0.05;
  }
  return ok;
}

// Trains one arm of one pair and returns its mIoU in percent on scenes that it has not seen.
double run(const std::string& equalizer, uint64_t seed) {
  const InitRandom weights(seed);
  FusionNet net(equalizer);
  DataLoader loader(kScenes, kPipeline, {.batch_size = 8, .seed = seed});
  calibrate_equalizers(net, [&](int64_t) { net(loader.next().images); });  // nothing to do for "off"
  loader.seek(0);  // both arms of a pair begin with the same batch
  const auto optimizer = make_optimizer(optimizer_parameters(net), {.type = "adamw"});
  for (int64_t step = 0; step < kSteps; ++step) {
    const Batch batch = loader.next();
    const Tensor loss = cross_entropy(net(batch.images), batch.labels);
    net.zero_grad();
    loss.backward();
    optimizer->step(1e-2 * (1 - double(step) / kSteps));
  }
  const NoGradGuard no_grad;
  net.eval();
  ConfusionMatrix confusion(kUnseen.num_classes(), kUnseen.ignore_index());
  for (int64_t i = 0; i < kUnseen.size(); ++i) {
    const Sample sample = load_for_evaluation(kUnseen, i, kPipeline);
    confusion.add(sample.labels, reshape(argmax_classes(net(sample.image)), {kSide, kSide}));
  }
  return 100 * confusion.metrics(kUnseen.class_names()).miou;
}

int main() {
  bool ok = prints_unit_scale();
  const double nothing = run("off", 0) - run("off", 0);
  std::printf("the same arm twice: difference %g\n", nothing);
  ok &= nothing == 0;
  double sum = 0, squares = 0;
  std::printf("seed   mIoU off  explicit  difference\n");
  for (int64_t seed = 0; seed < kSeeds; ++seed) {
    const double off = run("off", uint64_t(seed)), on = run("explicit", uint64_t(seed));
    std::printf("%3d %10.2f %9.2f %+11.2f\n", int(seed), off, on, on - off);
    sum += on - off;
    squares += (on - off) * (on - off);
    ok &= off > 25 && on > 25;  // both have learnt something
  }
  const double mean = sum / kSeeds, deviation = std::sqrt((squares - kSeeds * mean * mean) / (kSeeds - 1));
  const double half = kStudent * deviation / std::sqrt(double(kSeeds));
  std::printf("mean difference %+.2f points, 95 %% interval %+.2f to %+.2f\n", mean, mean - half, mean + half);
  const bool covers_zero = std::abs(mean) <= half;
  std::printf("%s\n", covers_zero ? "the interval covers zero: these runs do not say whether equalizers help here"
                      : mean > 0 ? "the interval is above zero: in these runs equalizers help"
                                 : "the interval is below zero: in these runs equalizers harm");
  std::printf("an effect of 0.2 points would need about %.0f pairs\n", std::pow(2.8 * deviation / 0.2, 2) + 2);
  std::printf("self-check: %s\n", ok ? "passed" : "FAILED");
  return ok ? 0 : 1;
}
