#include "models/heads/fcn_head.h"

#include <numeric>

namespace eq {
namespace {

bool resizes(const HeadOptions& options) {
  if (!options.input_transform.empty() && options.input_transform != "resize_concat") {
    throw UsageError("there is no input transform '" + options.input_transform + "'", "input_transform of a head",
                     "use resize_concat, or nothing for a single level");
  }
  return !options.input_transform.empty();
}

std::vector<int> levels_of(const HeadOptions& options, size_t level_count) {
  if (resizes(options)) return resolve_levels(options.in_index, level_count, LevelsDefault::kAll);
  return {resolve_level(options.in_index, level_count)};
}

}  // namespace

FCNHead::FCNHead(const HeadOptions& options, const std::vector<int64_t>& level_channels, const ModelOptions& model)
    : in_index_(levels_of(options, level_channels.size())), convs_(register_module<ModuleList<ConvModule>>("convs")) {
  std::vector<FusionSite::Branch> branches;
  for (int level : in_index_) {
    branches.push_back({.name = level_name(level), .channels = level_channels[level], .upsampled = is_coarser(level, in_index_[0], model)});
  }
  const int64_t channels = options.channels;
  const int64_t in_channels = std::accumulate(branches.begin(), branches.end(), int64_t{0},
                                              [](int64_t sum, const FusionSite::Branch& branch) { return sum + branch.channels; });
  if (options.num_convs < 1 && (resizes(options) || channels != in_channels)) {
    throw UsageError("a head without convolutions keeps its input's " + std::to_string(in_channels) + " channels, of one level", "fcn head",
                     "set num_convs to 1 or more, or channels to those of the level");
  }
  if (options.kernel_size % 2 == 0) {
    throw UsageError("an even kernel changes the size of its features: kernel_size " + std::to_string(options.kernel_size), "fcn head",
                     "use 1, 3 or 5, say");
  }
  for (int i = 0; i < options.num_convs; ++i) convs_.append(i == 0 ? in_channels : channels, channels, options.kernel_size);
  if (resizes(options)) {
    input_fusion_ = &register_module<FusionSite>("input_fusion", branches, model.level_upsampling(),
                                                 at_site(model.equalizer, "input_fusion"), convs_[0]);
  }
  if (options.concat_input) {
    auto& conv_cat = register_module<ConvModule>("conv_cat", in_channels + channels, channels, options.kernel_size);
    branches.push_back({.name = "convs", .channels = channels});
    concat_fusion_ =
        &register_module<FusionSite>("concat_fusion", branches, model.level_upsampling(),
                                     resizes(options) ? at_site(model.equalizer, "concat_fusion") : EqualizerOptions{}, conv_cat);
  }
  add_classifier(options, model);
}

Tensor FCNHead::forward(const std::vector<Tensor>& levels) {
  std::vector<Tensor> features;
  for (int level : in_index_) features.push_back(levels[level]);
  const int64_t height = features[0].size(1), width = features[0].size(2);
  Tensor x = input_fusion_ ? input_fusion_->forward(features, height, width) : features[0];
  for (size_t i = input_fusion_ ? 1 : 0; i < convs_.size(); ++i) x = convs_[i](x);
  if (!concat_fusion_) return classify(x);
  features.push_back(x);
  return classify(concat_fusion_->forward(features, height, width));
}

}  // namespace eq
