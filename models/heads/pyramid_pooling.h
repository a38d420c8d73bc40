#pragma once
// The pyramid pooling module (Zhao et al., 2017) that PSPHead and UPerHead share, registered as "psp_modules": for each scale s an average
// over s x s bins and a 1x1 ConvModule, key "psp_modules.<i>.1".

#include "layers/fusion.h"

namespace eq {

class PyramidPooling : public ModuleList<Sequential> {
 public:
  PyramidPooling(int64_t in_channels, int64_t channels, const std::vector<int64_t>& scales);
  // The map itself, then the pooled branches at their own sizes: the fusion site's features.
  std::vector<Tensor> forward(const Tensor& x);
  // These as the fusion site's branches; `name` is the map's.
  std::vector<FusionSite::Branch> branches(const std::string& name) const;
  int64_t total_channels() const { return in_channels_ + int64_t(scales_.size()) * channels_; }

 private:
  int64_t in_channels_, channels_;
  std::vector<int64_t> scales_;
};

}  // namespace eq
