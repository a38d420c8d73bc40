#pragma once
// A network with one fusion site, small enough to be followed in float64.

#include <memory>

#include "layers/calibration.h"
#include "support.h"

namespace eq::test {

enum class Fusion { kDense, kDepthwise, kBias };

inline EqualizerOptions equalizer_mode(const char* name, const char* granularity = "scalar") {
  EqualizerOptions options;
  options.mode = name;
  options.granularity = granularity;
  options.batches = 2;
  return options;
}

// Three branches of different scale, fused by a 3x3 convolution that pads; then a 1x1 convolution to two outputs.
class BranchNet : public Module {
 public:
  BranchNet(Fusion fusion, const EqualizerOptions& options) {
    std::vector<LevelSite::Branch> branches{{.name = "fine", .channels = 3},
                                            {.name = "middle", .channels = 2, .upsampled = true},
                                            {.name = "coarse", .channels = 3, .upsampled = true}};
    if (fusion == Fusion::kBias) {
      auto& conv = register_module<Conv2d>("conv", 8, 8, Conv2dLayerOptions{.kernel_size = 3, .padding = 1});
      site_ = &register_module<FusionSite>("site", branches, Upsampling(), options, conv);
    } else {
      auto& conv = register_module<Conv2d>(
          "conv", 8, 8, Conv2dLayerOptions{.kernel_size = 3, .padding = 1, .groups = fusion == Fusion::kDense ? 1 : 8, .bias = false});
      auto& norm = register_module<BatchNorm2d>("norm", 8, BatchNorm2dOptions{.relu = true});
      auto& both = register_module<Chain>("both", conv, norm);
      FusionLayer layer(conv);
      layer.layer = &both;
      layer.norm = &norm;
      site_ = &register_module<FusionSite>("site", branches, Upsampling(), options, layer);
    }
    last_ = &register_module<Conv2d>("last", 8, 2, Conv2dLayerOptions{});
  }
  Tensor forward(const std::vector<Tensor>& features) { return (*last_)(site_->forward(features, 8, 6)); }
  const Conv2d& conv() { return *site_->fusion().conv; }
  FusionSite& site() { return *site_; }

 private:
  struct Chain : Layer {
    Chain(Layer& first, Layer& second) : first_(first), second_(second) {}
    Tensor forward(const Tensor& x) override { return second_(first_(x)); }
    Layer &first_, &second_;
  };
  FusionSite* site_;
  Layer* last_;
};

inline std::vector<Tensor> branch_features(uint64_t seed) {
  return {random_tensor({2, 8, 6, 3}, seed) + 0.5, random_tensor({2, 4, 3, 2}, seed + 1) * 3.0 - 1.0,
          random_tensor({2, 2, 2, 3}, seed + 2) * 0.2};
}

inline std::unique_ptr<BranchNet> calibrated_net(Fusion fusion, const EqualizerOptions& options) {
  InitRandom random(3, DType::kFloat64);
  auto net = std::make_unique<BranchNet>(fusion, options);
  calibrate_equalizers(*net, [&](int64_t i) { net->forward(branch_features(100 + 10 * uint64_t(i))); });
  return net;
}

}  // namespace eq::test
