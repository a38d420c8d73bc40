#pragma once
// PSPHead (Zhao et al., 2017) with mmsegmentation's structure and names, on one level.
//
// Fusion site: "ppm_fusion" (the map itself, then the pooled branches in pool_scales' order, before `bottleneck`).

#include "models/heads/head_parts.h"
#include "models/heads/pyramid_pooling.h"

namespace eq {

class PSPHead : public DecodeHead {
 public:
  PSPHead(const HeadOptions& options, const std::vector<int64_t>& level_channels, const ModelOptions& model);
  Tensor forward(const std::vector<Tensor>& levels) override;

 private:
  int in_index_;
  PyramidPooling& psp_modules_;
  FusionSite* ppm_fusion_;
};

}  // namespace eq
