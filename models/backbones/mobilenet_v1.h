#pragma once
// MobileNet V1 (Howard et al., 2017) for dense prediction, under the names of the Keras weights: conv1, conv1_bn, then conv_dw_k,
// conv_dw_k_bn, conv_pw_k, conv_pw_k_bn for k = 1 .. 13. TensorFlow's: SAME padding, batch norm with epsilon 1e-3, ReLU6; pictures as x /
// 127.5 - 1, which is pipeline.mean = pipeline.std = 127.5.

#include "models/segmentor.h"

namespace eq {

class MobileNetV1 : public Backbone {
 public:
  // Throws UsageError for an output stride that does not exist or a multiplier that leaves no channels.
  explicit MobileNetV1(const BackboneOptions& options);
  // Blocks 3, 5, 11 and 13, at strides 4, 8, 16, 32 (less where dilated: there the stride becomes a dilation of all that follows).
  std::vector<Tensor> forward(const Tensor& images) override;
  std::vector<int64_t> level_channels() const override { return level_channels_; }

 private:
  struct Step {
    Conv2d* conv;
    BatchNorm2d* norm;
    bool ends_level;
  };
  void add_step(const std::string& name, int64_t in_channels, int64_t out_channels, const Conv2dLayerOptions& options, bool ends_level);

  std::vector<Step> steps_;
  std::vector<int64_t> level_channels_;
};

}  // namespace eq
