#include "models/heads/uper_head.h"

#include <algorithm>
#include <functional>

namespace eq {
namespace {

std::vector<int> ascending_levels(const HeadOptions& options, size_t level_count) {
  const std::vector<int> levels = resolve_levels(options.in_index, level_count, LevelsDefault::kAll);
  if (std::adjacent_find(levels.begin(), levels.end(), std::greater_equal<>()) != levels.end()) {
    throw UsageError("this head goes from each level to a finer one and reads none twice", "in_index of a head",
                     "give the levels in ascending order, as [0, 1, 2, 3]");
  }
  return levels;
}

}  // namespace

UPerHead::UPerHead(const HeadOptions& options, const std::vector<int64_t>& level_channels, const ModelOptions& model)
    : in_index_(ascending_levels(options, level_channels.size())),
      psp_modules_(register_module<PyramidPooling>("psp_modules", level_channels[in_index_.back()], options.channels, options.pool_scales)),
      lateral_convs_(register_module<ModuleList<ConvModule>>("lateral_convs")),
      fpn_convs_(register_module<ModuleList<ConvModule>>("fpn_convs")) {
  const int64_t channels = options.channels;
  auto& bottleneck = register_module<ConvModule>("bottleneck", psp_modules_.total_channels(), channels, 3);
  ppm_fusion_ = &register_module<FusionSite>("ppm_fusion", psp_modules_.branches(level_name(in_index_.back())), model.level_upsampling(),
                                             at_site(model.equalizer, "ppm_fusion"), bottleneck);
  top_down_ = &register_module<ModuleList<AdditiveSite>>("top_down");

  std::vector<FusionSite::Branch> levels;
  for (size_t i = 0; i + 1 < in_index_.size(); ++i) {
    lateral_convs_.append(level_channels[in_index_[i]], channels, 1);
    fpn_convs_.append(channels, channels, 3);
    levels.push_back({.name = level_name(in_index_[i]), .channels = channels, .upsampled = is_coarser(in_index_[i], in_index_[0], model)});
  }
  levels.push_back({.name = "pyramid", .channels = channels, .upsampled = is_coarser(in_index_.back(), in_index_[0], model)});
  for (size_t i = 0; i + 1 < levels.size(); ++i) {
    top_down_->append(
        std::vector<LevelSite::Branch>{
            {.name = levels[i].name, .channels = channels},
            {.name = levels[i + 1].name, .channels = channels, .upsampled = is_coarser(in_index_[i + 1], in_index_[i], model)}},
        model.level_upsampling(), at_sum(model.equalizer, "top_down"));
  }
  auto& fpn_bottleneck = register_module<ConvModule>("fpn_bottleneck", int64_t(levels.size()) * channels, channels, 3);
  fpn_fusion_ =
      &register_module<FusionSite>("fpn_fusion", levels, model.level_upsampling(), at_site(model.equalizer, "fpn_fusion"), fpn_bottleneck);

  add_classifier(options, model);
}

Tensor UPerHead::forward(const std::vector<Tensor>& levels) {
  std::vector<Tensor> path;
  for (size_t i = 0; i + 1 < in_index_.size(); ++i) path.push_back(lateral_convs_[i](levels[in_index_[i]]));
  const Tensor& last = levels[in_index_.back()];
  path.push_back(ppm_fusion_->forward(psp_modules_.forward(last), last.size(1), last.size(2)));
  for (size_t i = path.size() - 1; i > 0; --i) {
    path[i - 1] = (*top_down_)[i - 1].forward(path[i - 1], path[i]);
  }
  for (size_t i = 0; i + 1 < path.size(); ++i) path[i] = fpn_convs_[i](path[i]);
  return classify(fpn_fusion_->forward(path, path[0].size(1), path[0].size(2)));
}

}  // namespace eq
