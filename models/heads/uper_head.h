#pragma once
// UPerHead (Xiao et al., 2018) with mmsegmentation's structure and names: a pyramid pooling module on the last level, a top-down
// path over the others, and a fusion of all levels at the finest size.
//
// Fusion sites: "ppm_fusion" (the last map, then the pooled branches in pool_scales' order, before `bottleneck`), the sums
// "top_down.<level>" and "fpn_fusion" (levels fine to coarse, the pyramid's output last, before `fpn_bottleneck`).

#include "models/heads/head_parts.h"
#include "models/heads/pyramid_pooling.h"

namespace eq {

class UPerHead : public DecodeHead {
 public:
  UPerHead(const HeadOptions& options, const std::vector<int64_t>& level_channels, const ModelOptions& model);
  Tensor forward(const std::vector<Tensor>& levels) override;

 private:
  std::vector<int> in_index_;
  PyramidPooling& psp_modules_;
  ModuleList<ConvModule>& lateral_convs_;
  ModuleList<ConvModule>& fpn_convs_;
  FusionSite* ppm_fusion_;
  ModuleList<AdditiveSite>* top_down_;
  FusionSite* fpn_fusion_;
};

}  // namespace eq
