#pragma once
// Shapes and options that the tests and benchmarks of hard_examples go through.

#include "core/kernels/hard_examples.h"

namespace eq::cases {

struct HardExamplesCase {
  const char* name;
  Shape logits;  // [..., C]
  DType labels = DType::kUInt8;
  HardExamplesOptions options = {};
  double ignored = 0.2;  // share of ignored positions
};

inline const HardExamplesCase kHardExamplesCases[] = {
    {"by threshold", {2, 9, 13, 5}, DType::kUInt8, {.threshold = 0.3, .min_kept = 10}},
    {"by number", {2, 9, 13, 5}, DType::kInt32, {.threshold = 0.05, .min_kept = 77}},
    {"by number, of many", {3, 41, 67, 4}, DType::kInt64, {.threshold = 0.01, .min_kept = 5000}},
    {"more than there are", {40, 3}, DType::kUInt8, {.threshold = 0.5, .min_kept = 100000}},
    {"none at least", {40, 3}, DType::kInt32, {.threshold = 0.5, .min_kept = 0}},
    {"none below the threshold", {40, 3}, DType::kInt32, {.threshold = 1e-9, .min_kept = 0}},
    {"the hardest", {40, 3}, DType::kUInt8, {.threshold = 1e-9, .min_kept = 1}},
    {"all", {40, 3}, DType::kUInt8, {.threshold = 1, .min_kept = 40}},
    {"one class", {8, 1}, DType::kUInt8, {.threshold = 1, .min_kept = 3}},
    {"one position", {1, 5}, DType::kUInt8, {.threshold = 0.7, .min_kept = 1}, 0},
    {"ADE20K's classes", {2, 31, 150}, DType::kUInt8, {.threshold = 0.004, .min_kept = 20}},
    {"everything ignored", {3, 3, 6}, DType::kUInt8, {.threshold = 0.7, .min_kept = 5}, 1},
};

// Logits at full resolution; a limit by the number kept, which takes a selection.
inline const HardExamplesCase kHardExamplesNetworkCases[] = {
    {"CamVid", {8, 256, 256, 11}, DType::kUInt8, {.threshold = 1e-3, .min_kept = 100000}},
    {"Cityscapes", {8, 256, 256, 19}, DType::kUInt8, {.threshold = 1e-3, .min_kept = 100000}},
    {"ADE20K", {2, 512, 512, 150}, DType::kUInt8, {.threshold = 1e-3, .min_kept = 200000}},
};

}  // namespace eq::cases
