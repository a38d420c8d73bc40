#include "models/heads/fcn_head.h"

#include "models/heads/head_parts.h"

namespace eq {

FCNHead::FCNHead(const HeadOptions& options, const std::vector<int64_t>& level_channels, const ModelOptions& model)
    : in_index_(resolve_levels(options.in_index, level_channels.size(), LevelsDefault::kLast).back()),
      convs_(register_module<Sequential>("convs")) {
  const int64_t in_channels = level_channels[in_index_], channels = options.channels;
  if (options.num_convs < 0 || (options.num_convs == 0 && channels != in_channels)) {
    throw UsageError("a head without convolutions keeps its input's " + std::to_string(in_channels) + " channels", "fcn head",
                     "set num_convs to 1 or more, or channels to " + std::to_string(in_channels));
  }
  for (int i = 0; i < options.num_convs; ++i) convs_.append<ConvModule>(i == 0 ? in_channels : channels, channels, options.kernel_size);
  if (options.concat_input) {
    auto& conv_cat = register_module<ConvModule>("conv_cat", in_channels + channels, channels, options.kernel_size);
    const std::vector<FusionSite::Branch> branches{{.name = "input", .channels = in_channels}, {.name = "convs", .channels = channels}};
    concat_fusion_ = &register_module<FusionSite>("concat_fusion", branches, model.align_corners, EqualizerOptions{}, conv_cat);
  }
  dropout_ = &register_module<Dropout>("dropout", options.dropout, Dropout::Kind::kChannel);
  classifier_ = &register_module<Classifier>("conv_seg", channels, model.num_classes);
}

Tensor FCNHead::forward(const std::vector<Tensor>& levels) {
  const Tensor& x = levels[in_index_];
  Tensor y = convs_(x);
  if (concat_fusion_) y = concat_fusion_->forward({x, y}, x.size(1), x.size(2));
  return (*classifier_)((*dropout_)(y));
}

}  // namespace eq
