#pragma once
// What the heads share.

#include "models/segmentor.h"

namespace eq {

enum class LevelsDefault { kAll, kLast };

// The backbone levels a head reads: `in_index` with negative numbers counted from the end, or the default when empty.
// Throws UsageError for a level that does not exist.
std::vector<int> resolve_levels(const std::vector<int>& in_index, size_t level_count, LevelsDefault by_default);

// The 1x1 convolution to class scores, weights N(0, 0.01), bias 0.
class Classifier : public Conv2d {
 public:
  Classifier(int64_t channels, int64_t num_classes);
};

}  // namespace eq
