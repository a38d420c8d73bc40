#pragma once
// FCNHead (Long et al., 2015) with mmsegmentation's structure and names: `num_convs` ConvModules on one level, optionally a
// fusion of input and output ("concat_fusion" before `conv_cat`; nothing is upsampled there), then the classifier.

#include "models/segmentor.h"

namespace eq {

class FCNHead : public Head {
 public:
  FCNHead(const HeadOptions& options, const std::vector<int64_t>& level_channels, const ModelOptions& model);
  Tensor forward(const std::vector<Tensor>& levels) override;

 private:
  int in_index_;
  Sequential& convs_;
  FusionSite* concat_fusion_ = nullptr;
  Layer* dropout_;
  Layer* classifier_;
};

}  // namespace eq
