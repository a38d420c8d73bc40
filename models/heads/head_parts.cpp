#include "models/heads/head_parts.h"

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

Classifier::Classifier(int64_t channels, int64_t num_classes) : Conv2d(channels, num_classes, {.kernel_size = 1}) {
  Tensor values = weight();
  init::normal_(values, 0, 0.01);
}

}  // namespace eq
