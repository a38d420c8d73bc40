#include "models/heads/aspp_head.h"

namespace eq {

ASPPBase::ASPPBase(const HeadOptions& options, const std::vector<int64_t>& level_channels, const ModelOptions& model, bool separable)
    : in_index_(resolve_level(options.in_index, level_channels.size())),
      image_pool_(register_module<Sequential>("image_pool")),
      aspp_modules_(register_module<ModuleList<Layer>>("aspp_modules")) {
  const int64_t in_channels = level_channels[in_index_], channels = options.channels;
  image_pool_.append<AdaptiveAvgPool2d>(1);
  image_pool_.append<ConvModule>(in_channels, channels, 1);
  std::vector<FusionSite::Branch> branches{{.name = "image pool", .channels = channels, .upsampled = true}};
  for (int64_t dilation : options.dilations) {
    if (separable && dilation > 1) {
      aspp_modules_.append<DepthwiseSeparableConvModule>(in_channels, channels, 3, dilation);
    } else {
      aspp_modules_.append<ConvModule>(in_channels, channels, dilation == 1 ? 1 : 3, dilation);
    }
    branches.push_back({.name = "dilation " + std::to_string(dilation), .channels = channels});
  }
  auto& bottleneck = register_module<ConvModule>("bottleneck", int64_t(branches.size()) * channels, channels, 3);
  aspp_fusion_ =
      &register_module<FusionSite>("aspp_fusion", branches, model.level_upsampling(), at_site(model.equalizer, "aspp_fusion"), bottleneck);
}

Tensor ASPPBase::pyramid(const std::vector<Tensor>& levels) {
  const Tensor& x = levels[in_index_];
  std::vector<Tensor> features{image_pool_(x)};
  for (size_t i = 0; i < aspp_modules_.size(); ++i) features.push_back(aspp_modules_[i](x));
  return aspp_fusion_->forward(features, x.size(1), x.size(2));
}

ASPPHead::ASPPHead(const HeadOptions& options, const std::vector<int64_t>& level_channels, const ModelOptions& model)
    : ASPPBase(options, level_channels, model, false) {
  add_classifier(options, model);
}

Tensor ASPPHead::forward(const std::vector<Tensor>& levels) { return classify(pyramid(levels)); }

DepthwiseSeparableASPPHead::DepthwiseSeparableASPPHead(const HeadOptions& options, const std::vector<int64_t>& level_channels,
                                                       const ModelOptions& model)
    : ASPPBase(options, level_channels, model, true) {
  const int64_t channels = options.channels, c1_channels = options.c1_channels;
  if (c1_channels > 0) {
    c1_level_ = resolve_levels({options.c1_level}, level_channels.size(), LevelsDefault::kLast)[0];
    c1_bottleneck_ = &register_module<ConvModule>("c1_bottleneck", level_channels[c1_level_], c1_channels, 1);
  }
  sep_bottleneck_ = &register_module<Sequential>("sep_bottleneck");
  auto& first = sep_bottleneck_->append<DepthwiseSeparableConvModule>(channels + c1_channels, channels, 3);
  sep_bottleneck_->append<DepthwiseSeparableConvModule>(channels, channels, 3);
  if (c1_bottleneck_) {
    const std::vector<FusionSite::Branch> branches{
        {.name = "pyramid", .channels = channels, .upsampled = is_coarser(in_index_, c1_level_, model)},
        {.name = level_name(c1_level_), .channels = c1_channels}};
    c1_fusion_ = &register_module<FusionSite>("c1_fusion", branches, model.level_upsampling(), at_site(model.equalizer, "c1_fusion"),
                                              FusionLayer(*sep_bottleneck_, first.depthwise()));
  }
  add_classifier(options, model);
}

Tensor DepthwiseSeparableASPPHead::forward(const std::vector<Tensor>& levels) {
  const Tensor x = pyramid(levels);
  if (!c1_fusion_) return classify((*sep_bottleneck_)(x));
  const Tensor c1 = (*c1_bottleneck_)(levels[c1_level_]);
  return classify(c1_fusion_->forward({x, c1}, c1.size(1), c1.size(2)));
}

}  // namespace eq
