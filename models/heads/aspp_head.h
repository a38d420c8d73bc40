#pragma once
// ASPPHead (DeepLabV3; Chen et al., 2017) and DepthwiseSeparableASPPHead (DeepLabV3+, 2018) with mmsegmentation's structure and names.
//
// Fusion sites: "aspp_fusion" (the pooled branch first, then the dilated ones in the order of `dilations`, before `bottleneck`); in the
// separable head also "c1_fusion" (that result first, then the reduced finer level, before `sep_bottleneck`, whose first convolution is
// depthwise).

#include "models/heads/head_parts.h"

namespace eq {

// Atrous spatial pyramid pooling on one level: "image_pool.1", "aspp_modules.<i>", "bottleneck".
class ASPPBase : public DecodeHead {
 protected:
  ASPPBase(const HeadOptions& options, const std::vector<int64_t>& level_channels, const ModelOptions& model, bool separable);
  Tensor pyramid(const std::vector<Tensor>& levels);

  int in_index_;
  FusionSite* aspp_fusion_;

 private:
  Sequential& image_pool_;
  ModuleList<Layer>& aspp_modules_;
};

class ASPPHead : public ASPPBase {
 public:
  ASPPHead(const HeadOptions& options, const std::vector<int64_t>& level_channels, const ModelOptions& model);
  Tensor forward(const std::vector<Tensor>& levels) override;
};

// The dilated branches are depthwise separable; the result is refined at the size of level `c1_level`, whose `c1_channels` reduced
// channels join it (0: no such level).
class DepthwiseSeparableASPPHead : public ASPPBase {
 public:
  DepthwiseSeparableASPPHead(const HeadOptions& options, const std::vector<int64_t>& level_channels, const ModelOptions& model);
  Tensor forward(const std::vector<Tensor>& levels) override;

 private:
  int c1_level_ = 0;
  ConvModule* c1_bottleneck_ = nullptr;
  Sequential* sep_bottleneck_;
  FusionSite* c1_fusion_ = nullptr;
};

}  // namespace eq
