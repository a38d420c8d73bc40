#pragma once
// FCNHead (Long et al., 2015) with mmsegmentation's structure and names: `num_convs` ConvModules, optionally a fusion of input and output
// before `conv_cat`, then the classifier. On one level, or (input_transform "resize_concat", HRNet's head) on several, resized to
// the first of them.
//
// Fusion sites: "input_fusion" (resize_concat: the levels in in_index' order, before `convs.0`) and "concat_fusion" (the levels, then the
// convolutions' output, before `conv_cat`; on one level nothing is upsampled there and nothing equalized).

#include "models/heads/head_parts.h"

namespace eq {

class FCNHead : public DecodeHead {
 public:
  FCNHead(const HeadOptions& options, const std::vector<int64_t>& level_channels, const ModelOptions& model);
  Tensor forward(const std::vector<Tensor>& levels) override;

 private:
  std::vector<int> in_index_;
  ModuleList<ConvModule>& convs_;
  FusionSite* input_fusion_ = nullptr;
  FusionSite* concat_fusion_ = nullptr;
};

}  // namespace eq
