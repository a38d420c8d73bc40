#pragma once
// Shapes and options that cross-entropy's tests and benchmarks go through.

#include "core/dtype.h"
#include "core/kernels/cross_entropy.h"
#include "core/shape.h"

namespace eq::cases {

struct CrossEntropyCase {
  const char* name;
  Shape logits;  // [..., C]
  DType labels = DType::kUInt8;
  CrossEntropyOptions::Reduction reduction = CrossEntropyOptions::Reduction::kMeanAll;
  bool weighted = false;
  double ignored = 0.2;  // share of ignored positions
};

inline const CrossEntropyCase kCrossEntropyCases[] = {
    {"all", {2, 3, 5, 11}},
    {"valid only", {2, 3, 5, 11}, DType::kInt32, CrossEntropyOptions::Reduction::kMeanValid},
    {"weighted, all", {7, 19}, DType::kInt64, CrossEntropyOptions::Reduction::kMeanAll, true},
    {"weighted, valid only", {3, 5, 19}, DType::kUInt8, CrossEntropyOptions::Reduction::kMeanValid, true},
    {"weighted sum", {5, 5, 3}, DType::kInt32, CrossEntropyOptions::Reduction::kSum, true},
    {"two classes", {41, 2}, DType::kUInt8, CrossEntropyOptions::Reduction::kMeanValid},
    {"one class", {4, 1}, DType::kUInt8},
    {"a vector of classes", {3, 4, 16}, DType::kUInt8},
    {"ADE20K's classes", {2, 3, 150}, DType::kUInt8, CrossEntropyOptions::Reduction::kSum},
    {"everything ignored", {3, 3, 6}, DType::kUInt8, CrossEntropyOptions::Reduction::kMeanValid, false, 1},
};

// Logits at full resolution.
inline const CrossEntropyCase kCrossEntropyNetworkCases[] = {
    {"CamVid", {8, 256, 256, 11}},
    {"Cityscapes", {8, 256, 256, 19}},
    {"ADE20K", {2, 512, 512, 150}},
};

}  // namespace eq::cases
