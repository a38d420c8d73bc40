// Lesson 12: scale equalizers, and how to find out whether they help.
//
// The equalizer (Kim and Kim, 2024) is one line per branch of a fusion site: (x - mean) / std, with constants measured over
// training batches before the first step and fixed from then on. After it every branch has mean 0 and deviation 1, so that
// lesson 11's shares start equal. The network must be in training mode while it is measured (lesson 7 says why).
//
// Does it help? Two trainings that differ in nothing still differ in mIoU if their seeds do, by more than most ideas are worth.
// So one run of each arm proves nothing. Three habits make a small effect visible:
//  - Pairs. Both arms of a pair start from the same weights and see the same batches. What the seed does to both cancels in
//    the difference.
//  - Nothing first. The same arm twice must give a difference of exactly 0. Here arithmetic is deterministic, so it does.
//  - An interval. From differences d_1 .. d_K with mean m and standard deviation s the true mean lies, with 95 % confidence, in
//      m +- t s / sqrt(K)       t = 2.776 for K = 5 (Student's distribution with K - 1 degrees of freedom)
//    If it covers zero, the honest sentence is: "we do not know". To see an effect of size e one needs about (2 s / e)^2 + 2 pairs.
//
// The runs here are toys: tiny networks, a minute of training. Their answer is about toys. `equiscale study run` does the
// same on real data with as many seeds as you have time for.
//
// Exercise: change the optimizer to plain SGD (lr 0.05). Theory says equalizers matter more there. Does the interval agree?
#include <cmath>
#include <cstdio>

#include "core/file.h"
#include "datasets/loader.h"
#include "datasets/shapes.h"
#include "layers/calibration.h"
#include "layers/moments.h"
#include "models/segmentor.h"
#include "training/evaluator.h"
#include "training/optimizer.h"

using namespace eq;

constexpr int64_t kSide = 64, kSeeds = 5, kSteps = 60;
constexpr double kStudent = 2.776;  // 97.5 % point, 4 degrees of freedom
const ShapesDataset kScenes(kShapesSeed, "train", kSide, Dataset::kEndless), kUnseen(kShapesSeed, "val", kSide, 60);

PipelineOptions pipeline() {
  PipelineOptions options;
  options.photometric = false;
  return options;
}

ModelOptions small_upernet(const char* mode) {
  ModelOptions options;
  options.num_classes = kScenes.num_classes();
  options.backbone.width = 8;
  options.decode_head.channels = 16;
  options.decode_head.pool_scales = {1, 2};
  options.equalizer.mode = mode;
  options.equalizer.batches = 8;
  return options;
}

bool same_weights(const Module& a, const Module& b) {
  const auto ours = a.parameters(), theirs = b.parameters();
  bool same = ours.size() == theirs.size();
  for (size_t i = 0; same && i < ours.size(); ++i) same = ours[i].to_vector<float>() == theirs[i].to_vector<float>();
  return same;
}

// Mean and deviation of each branch as the fusion convolution gets it, on batches that calibration has not seen.
bool prints_unit_scale(EncoderDecoder& model, DataLoader& loader) {
  FusionSite& site = *modules_of<FusionSite>(model).back();
  std::vector<Moments> seen(site.branches().size());
  site.set_observer([&](const LevelSite::Visit& visit) {
    for (size_t b = 0; b < seen.size(); ++b) {
      const LevelSite::Branch& branch = visit.site.branches()[b];
      seen[b].merge(pooled(channel_moments(visit.fused, branch.first_channel, branch.first_channel + branch.channels)));
    }
  });
  for (int i = 0; i < 4; ++i) model.forward(loader.next().images);
  site.set_observer({});
  bool ok = true;
  for (size_t b = 0; b < seen.size(); ++b) {
    std::printf("  %-8s mean %6.3f  std %.3f\n", site.branches()[b].name.c_str(), seen[b].mean, seen[b].standard_deviation());
    ok &= std::abs(seen[b].mean) < 0.05 && std::abs(seen[b].standard_deviation() - 1) < 0.05;
  }
  return ok;
}

// Trains one arm of one pair and returns its mIoU on scenes that it has not seen.
double run(const char* mode, uint64_t seed) {
  const InitRandom weights(seed);
  EncoderDecoder model(small_upernet(mode));
  DataLoader loader(kScenes, pipeline(), {.batch_size = 8, .seed = seed});
  if (model.options().equalizer.mode != "off") {
    calibrate_equalizers(model, [&](int64_t) { model.forward(loader.next().images); });
  }
  loader.seek(0);  // both arms of a pair begin with the same batch
  const auto optimizer = make_optimizer(optimizer_parameters(model), {.type = "adamw"});
  for (int64_t step = 0; step < kSteps; ++step) {
    const Batch batch = loader.next();
    model.set_step(seed, uint64_t(step));
    const Tensor scores = resize_bilinear(model.forward(batch.images).logits, kSide, kSide, model.align_corners());
    const Tensor loss = cross_entropy(scores, batch.labels);
    model.zero_grad();
    loss.backward();
    optimizer->step(1e-2 * (1 - double(step) / kSteps));
  }
  return evaluate(model, kUnseen, {.options = {.batch_size = 20}, .pipeline = pipeline()}).metrics.miou;
}

int main() {
  bool ok = true;
  {
    const InitRandom weights(0);
    EncoderDecoder equalized(small_upernet("explicit"));
    const InitRandom again(0);
    ok &= same_weights(EncoderDecoder(small_upernet("off")), equalized);
    DataLoader loader(kScenes, pipeline(), {.batch_size = 8});
    calibrate_equalizers(equalized, [&](int64_t) { equalized.forward(loader.next().images); });
    std::printf("after calibration, on new batches\n");
    ok &= prints_unit_scale(equalized, loader);
  }
  std::printf("the same arm twice: difference %g\n", 100 * (run("off", 0) - run("off", 0)));
  double sum = 0, squares = 0;
  std::printf("seed   mIoU off  explicit  difference\n");
  for (int64_t seed = 0; seed < kSeeds; ++seed) {
    const double off = 100 * run("off", uint64_t(seed)), on = 100 * run("explicit", uint64_t(seed));
    std::printf("%3d %10.2f %9.2f %+11.2f\n", int(seed), off, on, on - off);
    sum += on - off;
    squares += (on - off) * (on - off);
  }
  const double mean = sum / kSeeds, deviation = std::sqrt((squares - kSeeds * mean * mean) / (kSeeds - 1));
  const double half = kStudent * deviation / std::sqrt(double(kSeeds));
  std::printf("mean difference %+.2f points, 95 %% interval %+.2f to %+.2f\n", mean, mean - half, mean + half);
  if (mean - half <= 0 && mean + half >= 0) {
    std::printf("the interval covers zero: these runs do not say whether equalizers help here\n");
  } else {
    std::printf("the interval does not cover zero: here equalizers %s\n", mean > 0 ? "help" : "harm");
  }
  std::printf("an effect of 0.2 points would need about %.0f pairs\n", std::pow(2 * deviation / 0.2, 2) + 2);
  std::printf("self-check: %s\n", ok ? "passed" : "FAILED");
  return ok ? 0 : 1;
}
