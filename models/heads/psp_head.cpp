#include "models/heads/psp_head.h"

namespace eq {

PSPHead::PSPHead(const HeadOptions& options, const std::vector<int64_t>& level_channels, const ModelOptions& model)
    : in_index_(resolve_level(options.in_index, level_channels.size())),
      psp_modules_(register_module<PyramidPooling>("psp_modules", level_channels[in_index_], options.channels, options.pool_scales)) {
  auto& bottleneck = register_module<ConvModule>("bottleneck", psp_modules_.total_channels(), options.channels, 3);
  ppm_fusion_ = &register_module<FusionSite>("ppm_fusion", psp_modules_.branches(level_name(in_index_)), model.level_upsampling(),
                                             at_site(model.equalizer, "ppm_fusion"), bottleneck);
  add_classifier(options, model);
}

Tensor PSPHead::forward(const std::vector<Tensor>& levels) {
  const Tensor& x = levels[in_index_];
  return classify(ppm_fusion_->forward(psp_modules_.forward(x), x.size(1), x.size(2)));
}

}  // namespace eq
