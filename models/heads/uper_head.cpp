#include "models/heads/uper_head.h"

#include "models/heads/head_parts.h"

namespace eq {

UPerHead::UPerHead(const HeadOptions& options, const std::vector<int64_t>& level_channels, const ModelOptions& model)
    : in_index_(resolve_levels(options.in_index, level_channels.size(), LevelsDefault::kAll)),
      align_corners_(model.align_corners),
      psp_modules_(register_module<ModuleList<Sequential>>("psp_modules")),
      lateral_convs_(register_module<ModuleList<ConvModule>>("lateral_convs")),
      fpn_convs_(register_module<ModuleList<ConvModule>>("fpn_convs")) {
  const int64_t channels = options.channels;
  const int64_t last_channels = level_channels[in_index_.back()];

  std::vector<FusionSite::Branch> pyramid{{.name = "level " + std::to_string(in_index_.back()), .channels = last_channels}};
  for (int64_t scale : options.pool_scales) {
    Sequential& branch = psp_modules_.append();
    branch.append<AdaptiveAvgPool2d>(scale);
    branch.append<ConvModule>(last_channels, channels, 1);
    pyramid.push_back({.name = "pool " + std::to_string(scale), .channels = channels, .upsampled = true});
  }
  auto& bottleneck = register_module<ConvModule>("bottleneck", last_channels + int64_t(options.pool_scales.size()) * channels, channels, 3);
  ppm_fusion_ = &register_module<FusionSite>("ppm_fusion", pyramid, align_corners_, model.equalizer, bottleneck);
  top_down_ = &register_module<ModuleList<AdditiveSite>>("top_down");

  std::vector<FusionSite::Branch> levels;
  for (size_t i = 0; i + 1 < in_index_.size(); ++i) {
    lateral_convs_.append(level_channels[in_index_[i]], channels, 1);
    fpn_convs_.append(channels, channels, 3);
    levels.push_back({.name = "level " + std::to_string(in_index_[i]), .channels = channels, .upsampled = i > 0});
  }
  levels.push_back({.name = "pyramid", .channels = channels, .upsampled = true});
  for (size_t i = 0; i + 1 < levels.size(); ++i) {
    top_down_->append(std::vector<LevelSite::Branch>{{.name = levels[i].name, .channels = channels},
                                                     {.name = levels[i + 1].name, .channels = channels, .upsampled = true}},
                      align_corners_);
  }
  auto& fpn_bottleneck = register_module<ConvModule>("fpn_bottleneck", int64_t(levels.size()) * channels, channels, 3);
  fpn_fusion_ = &register_module<FusionSite>("fpn_fusion", levels, align_corners_, model.equalizer, fpn_bottleneck);

  dropout_ = &register_module<Dropout>("dropout", options.dropout, Dropout::Kind::kChannel);
  classifier_ = &register_module<Classifier>("conv_seg", channels, model.num_classes);
}

Tensor UPerHead::pyramid(const Tensor& last) {
  std::vector<Tensor> branches{last};
  for (size_t i = 0; i < psp_modules_.size(); ++i) branches.push_back(psp_modules_[i](last));
  return ppm_fusion_->forward(branches, last.size(1), last.size(2));
}

Tensor UPerHead::forward(const std::vector<Tensor>& levels) {
  std::vector<Tensor> path;
  for (size_t i = 0; i + 1 < in_index_.size(); ++i) path.push_back(lateral_convs_[i](levels[in_index_[i]]));
  path.push_back(pyramid(levels[in_index_.back()]));
  for (size_t i = path.size() - 1; i > 0; --i) {
    path[i - 1] = (*top_down_)[i - 1].forward(path[i - 1], path[i]);
  }
  for (size_t i = 0; i + 1 < path.size(); ++i) path[i] = fpn_convs_[i](path[i]);
  const Tensor fused = fpn_fusion_->forward(path, path[0].size(1), path[0].size(2));
  return (*classifier_)((*dropout_)(fused));
}

}  // namespace eq
