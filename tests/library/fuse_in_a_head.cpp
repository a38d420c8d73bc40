// A decode head of one's own that fuses levels at a site with equalizers, behind a stock backbone: trained, probed, gone on with,
// evaluated.
#include "programs.h"

#include "autograd/functional.h"
#include "core/safetensors.h"
#include "datasets/loader.h"
#include "datasets/shapes.h"
#include "layers/calibration.h"
#include "models/heads/head_parts.h"
#include "training/evaluator.h"
#include "training/prediction.h"
#include "training/probes.h"
#include "training/train_step.h"

using namespace eq;

namespace {

// Each level through a 1x1 convolution, then all of them resized to the finest, equalized, and mixed by a 3x3 convolution.
class LateralHead : public DecodeHead {
 public:
  LateralHead(const HeadOptions& options, const std::vector<int64_t>& level_channels, const ModelOptions& model)
      : laterals_(register_module<ModuleList<ConvModule>>("laterals")),
        mix_(register_module<ConvModule>("mix", options.channels * int64_t(level_channels.size()), options.channels, 3)) {
    std::vector<FusionSite::Branch> branches;
    for (size_t i = 0; i < level_channels.size(); ++i) {
      laterals_.append(level_channels[i], options.channels, 1);
      branches.push_back({.name = level_name(int(i)), .channels = options.channels, .upsampled = i > 0});
    }
    site_ = &register_module<FusionSite>("site", branches, model.level_upsampling(), model.equalizer, mix_);
    add_classifier(options, model);
  }
  Tensor forward(const std::vector<Tensor>& levels) override {
    std::vector<Tensor> features;
    for (size_t i = 0; i < levels.size(); ++i) features.push_back(laterals_[i](levels[i]));
    return classify(site_->forward(features, levels[0].size(1), levels[0].size(2)));
  }

 private:
  ModuleList<ConvModule>& laterals_;
  ConvModule& mix_;
  FusionSite* site_;
};

// The network, made anew by each program that trains it or goes on with it.
std::unique_ptr<EncoderDecoder> make_network(const Config& config) {
  const InitRandom weights(0);
  auto backbone = make_backbone(config.model.backbone);
  auto head = std::make_unique<LateralHead>(config.model.decode_head, backbone->level_channels(), config.model);
  return std::make_unique<EncoderDecoder>(config.model, std::move(backbone), std::move(head));
}

}  // namespace

void fuse_in_a_head(const std::filesystem::path& folder) {
  const ShapesDataset scenes(kShapesSeed, "train", 64, Dataset::kEndless), unseen(kShapesSeed, "val", 64, 4);
  Config config;
  config.model.num_classes = scenes.num_classes();
  config.model.backbone.width = 16;  // a narrow ResNet-18
  config.model.decode_head.channels = 32;
  config.model.equalizer = {.mode = "explicit", .batches = 2};
  const auto network = make_network(config);
  EncoderDecoder& model = *network;
  DataLoader loader(scenes, config.pipeline, {.batch_size = 4});
  const CalibrationReport report = calibrate_equalizers(model, [&](int64_t) { model.forward(loader.next().images); });
  expect(report.branches.size() == 4 && report.branches[0].site == "decode_head.site", "every branch is measured");
  loader.seek(0);
  TrainStep step(model, config);
  const auto next = [&] { return loader.next(); };
  for (int64_t i = 0; i < 2; ++i) step.run(i, next);
  write_safetensors(folder / "lateral.safetensors", model.state_dict());
  write_safetensors(folder / "lateral_optimizer.safetensors", step.optimizer().state());
  Probe probe(model, 2, false);
  const double loss = step.run(2, next, &probe).loss;
  for (const BranchRecord& branch : probe.record().sites.at(0).branches) {
    expect(branch.input_grad > 0 && branch.weight_grad > 0, "the probe has seen each branch");
  }

  const auto again = make_network(config);
  again->load_state_dict(read_safetensors(folder / "lateral.safetensors").tensors);  // the equalizers' constants, too
  TrainStep going_on(*again, config);
  going_on.optimizer().load_state(read_safetensors(folder / "lateral_optimizer.safetensors").tensors, "lateral_optimizer.safetensors");
  loader.seek(2);
  expect(going_on.run(2, next).loss == loss, "it goes on to the same bits");

  expect(evaluate(model, unseen, {.options = config.evaluate, .pipeline = config.pipeline}).pictures == 4, "and is evaluated");
  const Image picture = unseen.load(0).image;
  again->eval();
  config.evaluate.mode = "slide";
  config.evaluate.crop = {48, 48};
  config.evaluate.stride = {32, 32};
  const auto views = prepare_views(picture, config.pipeline, config.evaluate);
  const Tensor classes = predict_classes(*again, views, picture.height, picture.width, config.evaluate);  // uint8 [1,height,width]
  expect(classes.shape() == Shape{1, 64, 64}, "each pixel has a class");
}
