#include "models/heads/head_parts.h"

#include <algorithm>
#include <numeric>

namespace eq {

std::vector<int> resolve_levels(const std::vector<int>& in_index, size_t level_count, LevelsDefault by_default) {
  const int count = int(level_count);
  std::vector<int> levels = in_index;
  if (levels.empty()) {
    levels.resize(by_default == LevelsDefault::kAll ? level_count : 1);
    std::iota(levels.begin(), levels.end(), by_default == LevelsDefault::kAll ? 0 : count - 1);
  }
  for (int& level : levels) {
    if (level < -count || level >= count) {
      throw UsageError("the backbone has no level " + std::to_string(level), "in_index of a head",
                       "levels run from 0 (finest) to " + std::to_string(count - 1));
    }
    if (level < 0) level += count;
  }
  return levels;
}

int resolve_level(const std::vector<int>& in_index, size_t level_count) {
  if (in_index.size() > 1) {
    throw UsageError("this head reads one level, not " + std::to_string(in_index.size()), "in_index of a head",
                     "give one level, or type fcn with input_transform resize_concat");
  }
  return resolve_levels(in_index, level_count, LevelsDefault::kLast)[0];
}

bool is_coarser(int level, int than, const ModelOptions& model) {
  const auto stride = [&](int of) { return std::min(4 << of, model.backbone.output_stride); };
  return stride(level) > stride(than);
}

std::string level_name(int level) { return "level " + std::to_string(level); }

Classifier::Classifier(int64_t channels, int64_t num_classes) : Conv2d(channels, num_classes, {.kernel_size = 1}) {
  Tensor values = weight();
  init::normal_(values, 0, 0.01);
}

Tensor DecodeHead::classify(const Tensor& features) {
  if (!classifier_) throw UsageError("the head has no classifier", path(), "call add_classifier() last in its constructor");
  return (*classifier_)((*dropout_)(features));
}

void DecodeHead::add_classifier(const HeadOptions& options, const ModelOptions& model) {
  dropout_ = &register_module<Dropout>("dropout", std::max(0.0, options.dropout), Dropout::Kind::kChannel);
  classifier_ = &register_module<Classifier>("conv_seg", options.channels, model.num_classes);
}

}  // namespace eq
