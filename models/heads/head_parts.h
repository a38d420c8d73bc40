#pragma once
// What the heads share.

#include "models/segmentor.h"

namespace eq {

enum class LevelsDefault { kAll, kLast };

// The backbone levels a head reads: `in_index` with negative numbers counted from the end, or the default when empty.
// Throws UsageError for a level that does not exist.
std::vector<int> resolve_levels(const std::vector<int>& in_index, size_t level_count, LevelsDefault by_default);

// Of a head that reads a single level, the last by default. Throws UsageError for several.
int resolve_level(const std::vector<int>& in_index, size_t level_count);

// Whether a level is smaller than another one. Levels have strides 4, 8, 16, 32; in a dilated backbone none goes beyond its output stride.
bool is_coarser(int level, int than, const ModelOptions& model);

// How a fusion site names a backbone level: "level 2".
std::string level_name(int level);

// The 1x1 convolution to class scores, weights N(0, 0.01), bias 0.
class Classifier : public Conv2d {
 public:
  Classifier(int64_t channels, int64_t num_classes);
};

// A head's end: channel dropout, then the classifier "conv_seg".
class DecodeHead : public Head {
 protected:
  void add_classifier(const HeadOptions& options, const ModelOptions& model);  // last in the constructor
  Tensor classify(const Tensor& features);  // throws UsageError where there is no classifier

 private:
  Layer* dropout_ = nullptr;
  Layer* classifier_ = nullptr;
};

}  // namespace eq
