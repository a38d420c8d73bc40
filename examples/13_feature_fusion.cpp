// Lesson 13: where levels meet.
//
// A decoder sees fine features that know little (level 0) and coarse ones that know much (the pyramid). UPerHead
// enlarges all to the finest size, puts them side by side, and lets one 3x3 convolution mix them: y = sum over
// branches of W_i x_i. The library calls that place a FusionSite. It can be observed: each forward pass shows the
// features as they arrive and as the convolution gets them.
//
// Scale. Every branch comes out of convolution, batch norm and ReLU, so at the start all arrive with about the same
// deviation, 0.58. But then the coarse ones are enlarged, and lesson 6 says what that costs: white noise would keep
// the share of its variance in the column "noise". Real features are smooth, and smooth ones keep more: neighbours
// that are equal lose nothing in being mixed.
//
// Gradient. dL/dW_i is the sum over positions of (gradient at y) * x_i. So the weights of a branch hear as loud a
// gradient as its features are: the finest branch, which is not enlarged, gets the largest share, and gradient
// descent moves its weights most. This is what the paper calls scale disequilibrium. But compare the columns: from
// level 1 to the pyramid the deviation hardly changes, and the gradient still falls by a third. There the likely
// cause is another: coarse features are nearly constant over areas in which the gradient at y changes sign, and what
// is summed cancels. No equalizer mends that. And note what the last column does not say: that it hurts. Lesson 14
// asks.
//
// The picture shows one channel of each branch as the convolution gets it, on one scale of grays.
//
// Exercise: measure the correlation rho of horizontal neighbours in each branch as it arrives, and compare the kept
// share with bilinear_variance_factor(in, out, false, rho) squared. How much of the difference to noise does it
// explain?
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/errors.h"
#include "core/file.h"
#include "core/kernels/bilinear_variance.h"
#include "datasets/loader.h"
#include "datasets/shapes.h"
#include "layers/moments.h"
#include "models/segmentor.h"

using namespace eq;

constexpr int64_t kSide = 128, kBatches = 4, kBatchSize = 4;

struct BranchScale {
  Moments arriving, fused;
  int64_t size = 0, fused_size = 0;
  double gradient = 0;  // Euclidean norm of its slice of the fusion weight's gradient
};

// Fills `scales` at each forward pass from now on; `picture` keeps the last resized concatenation.
void observe(FusionSite& site, std::vector<BranchScale>& scales, Tensor& picture) {
  scales.resize(site.branches().size());
  site.set_observer([&](const LevelSite::Visit& visit) {
    picture = visit.resized();
    for (size_t b = 0; b < scales.size(); ++b) {
      const LevelSite::Branch& branch = visit.site.branches()[b];
      const int64_t begin = branch.first_channel, end = begin + branch.channels;
      scales[b].arriving.merge(pooled(channel_moments(visit.features[b], 0, branch.channels)));
      scales[b].fused.merge(pooled(channel_moments(picture, begin, end)));
      scales[b].size = visit.features[b].size(1);
      scales[b].fused_size = visit.out_h;
    }
  });
}

void measure_gradients(const FusionSite& site, std::vector<BranchScale>& scales) {
  const Tensor gradient = site.fusion().conv->weight().grad();  // [O, 3, 3, all channels]
  for (size_t b = 0; b < scales.size(); ++b) {
    const LevelSite::Branch& branch = site.branches()[b];
    const Tensor part = slice(gradient, 3, branch.first_channel, branch.first_channel + branch.channels);
    scales[b].gradient = std::sqrt(sum(square(part)).item());
  }
}

// The first channel of each branch in the first scene, as gray values.
void draw(const FusionSite& site, const Tensor& resized, const std::string& path) {
  const int64_t side = resized.size(1), channels = resized.size(3);
  std::vector<Image> maps;
  for (const LevelSite::Branch& branch : site.branches()) {
    Image map{side, side, {}};
    for (int64_t i = 0; i < side * side; ++i) {
      const double value = resized.value_at(i * channels + branch.first_channel);
      map.pixels.insert(map.pixels.end(), 3, uint8_t(std::clamp(120 * value, 0.0, 255.0)));
    }
    maps.push_back(resize_bilinear(map, {160, 160}));
  }
  write_png(path, side_by_side(maps));
}

int main(int argc, char** argv) try {
  const std::string folder = argc > 1 ? argv[1] : ".";
  make_folder(folder);
  const ShapesDataset scenes(kShapesSeed, "train", kSide, Dataset::kEndless);
  PipelineOptions pipeline;
  pipeline.photometric = false;
  DataLoader loader(scenes, pipeline, {.batch_size = kBatchSize});

  ModelOptions options;
  options.num_classes = scenes.num_classes();
  options.backbone.width = 16;
  options.decode_head.channels = 32;
  options.decode_head.pool_scales = {1, 2};  // the last map is 4x4
  const InitRandom weights(0);
  EncoderDecoder model(options);
  FusionSite& site = *modules_of<FusionSite>(model).back();

  std::vector<BranchScale> scales;
  Tensor resized;
  observe(site, scales, resized);
  for (int64_t batch = 0; batch < kBatches; ++batch) {  // the gradients of all batches add up
    const Batch data = loader.next();
    model.set_step(0, uint64_t(batch));
    const Tensor scores = resize_bilinear(model.forward(data.images).logits, kSide, kSide, model.align_corners());
    cross_entropy(scores, data.labels).backward();
  }
  measure_gradients(site, scales);
  draw(site, resized, folder + "/13_branches.png");

  double all = 0;
  for (const BranchScale& scale : scales) all += scale.gradient;
  std::printf("%s, before the first step\n", site.path().c_str());
  std::printf("branch     size      std arriving  fused   variance kept  noise   |gradient|  share\n");
  bool ok = true;
  for (size_t b = 0; b < scales.size(); ++b) {
    const BranchScale& scale = scales[b];
    const double kept = scale.fused.variance() / scale.arriving.variance();
    const double noise = std::pow(bilinear_variance_factor(scale.size, scale.fused_size, false), 2);
    std::printf("%-8s %3d -> %2d %11.3f %10.3f %12.3f %9.3f %11.4f %7.1f %%\n", site.branches()[b].name.c_str(),
                int(scale.size), int(scale.fused_size), scale.arriving.standard_deviation(),
                scale.fused.standard_deviation(), kept, noise, scale.gradient, 100 * scale.gradient / all);
    ok &= b == 0 ? kept == 1 && noise == 1 : kept < 1 && kept > noise - 0.05 && scale.gradient < scales[0].gradient;
  }
  std::printf("self-check: %s\n", ok ? "passed" : "FAILED");
  return ok ? 0 : 1;
} catch (const Error& error) {  // what, where, what to try
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
