// What arrives at a fusion site and what flows back from it; the numbers of `equiscale study scales`, by hand.
#include "programs.h"

#include <cmath>
#include <map>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "datasets/loader.h"
#include "datasets/shapes.h"
#include "layers/moments.h"
#include "training/probes.h"

using namespace eq;

void probe_a_site(const std::filesystem::path&) {
  const ShapesDataset scenes(kShapesSeed, "train", 64, Dataset::kEndless);
  ModelOptions options;
  options.num_classes = scenes.num_classes();
  options.backbone.width = 16;
  options.decode_head.channels = 32;
  options.decode_head.pool_scales = {1, 2};
  const InitRandom weights(0);
  EncoderDecoder model(options);
  const PipelineOptions pipeline;
  DataLoader loader(scenes, pipeline, {.batch_size = 4});
  const Batch batch = loader.next();

  FusionSite& site = *modules_of<FusionSite>(model).back();  // "decode_head.fpn_fusion"
  std::map<std::string, double> scale, gradient;
  SiteRecord record;
  site.set_observer([&](const LevelSite::Visit& visit) {
    const Tensor resized = visit.resized();
    for (size_t b = 0; b < visit.features.size(); ++b) {
      const LevelSite::Branch& branch = site.branches()[b];
      const int64_t begin = branch.first_channel, end = begin + branch.channels;
      scale[branch.name] = pooled(channel_moments(resized, begin, end)).standard_deviation();
      register_hook(visit.features[b], [&, name = branch.name](const Tensor& grad) {
        gradient[name] = std::sqrt(sum(square(grad)).item());
        return Tensor();  // the gradient stays as it is
      });
    }
    record = measure_site(visit);
  });
  std::map<std::string, double> at_layer;
  const LayerObserver observer([&](Layer& layer, const Tensor&, const Tensor& output) {
    if (!output.requires_grad()) return;
    register_hook(output, [&, name = layer.path()](const Tensor& grad) { return at_layer[name] = std::sqrt(sum(square(grad)).item()), Tensor(); });
  });
  const Tensor scores = resize_bilinear(model.forward(batch.images).logits, 64, 64, model.align_corners());
  cross_entropy(scores, batch.labels).backward();
  site.set_observer({});

  expect(at_layer.size() > 20 && at_layer.at("decode_head.conv_seg") > 0, "a gradient flows back to each layer");
  for (const BranchRecord& branch : record.branches) {
    expect(std::abs(branch.resized.std - scale.at(branch.name)) < 1e-9, "measure_site measures the same");
    expect(gradient.at(branch.name) > 0, "a gradient flows back to each branch");
  }
}
