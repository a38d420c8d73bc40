#pragma once
// ConvNeXt (Liu et al., 2022) for dense prediction, under mmpretrain's names: "downsample_layers.<i>" (a 4x4 convolution of stride 4, then
// 2x2 ones of stride 2), "stages.<i>.<block>", and a fresh layer norm on each of the four levels, "norm<i>". Layer scales start at 1, as
// its segmentation recipes have it. A side that a stride does not divide loses the rest, so that pictures need 32 pixels.

#include "models/segmentor.h"

namespace eq {

// x + path(gamma * pointwise_conv2(gelu(pointwise_conv1(norm(depthwise_conv(x))))))
class ConvNeXtBlock : public Layer {
 public:
  ConvNeXtBlock(int64_t channels, double drop_path);
  Tensor forward(const Tensor& x) override;

 private:
  Conv2d& depthwise_conv_;
  LayerNorm& norm_;
  Linear& pointwise_conv1_;
  Linear& pointwise_conv2_;
  Dropout& path_;
  Tensor gamma_;
};

class ConvNeXt : public Backbone {
 public:
  // Throws UsageError for a variant that does not exist or a multiplier that leaves no channels.
  explicit ConvNeXt(const BackboneOptions& options);
  std::vector<Tensor> forward(const Tensor& images) override;  // strides 4, 8, 16, 32
  std::vector<int64_t> level_channels() const override { return level_channels_; }
  int64_t smallest_side() const override { return 32; }
  std::vector<std::string> order_of_use() const override;

 private:
  std::vector<Layer*> downsample_layers_, stages_, norms_;
  std::vector<int64_t> level_channels_;
};

}  // namespace eq
