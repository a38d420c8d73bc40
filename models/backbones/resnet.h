#pragma once
// ResNet (He et al., 2016) as mmsegmentation builds it for dense prediction: v1 stem (one 7x7, keys conv1, bn1) or v1c stem
// (three 3x3, keys stem.0 .. stem.7), stride on the 3x3 of a bottleneck, dilated last stages for output strides 16 and 8
// (the first block of a dilated stage uses half of its dilation), zero-initialised last batch norm of each block.

#include "models/segmentor.h"

namespace eq {

class ResNet : public Backbone {
 public:
  // Throws UsageError for a depth, stem or output stride that does not exist.
  explicit ResNet(const BackboneOptions& options);
  std::vector<Tensor> forward(const Tensor& images) override;  // strides 4, 8, 16, 32 (or less where dilated)
  std::vector<int64_t> level_channels() const override { return level_channels_; }

 private:
  std::vector<Layer*> stem_;  // v1: conv1, bn1; v1c: stem
  MaxPool2d pool_{3, 2, 1};
  std::vector<Layer*> stages_;
  std::vector<int64_t> level_channels_;
};

}  // namespace eq
