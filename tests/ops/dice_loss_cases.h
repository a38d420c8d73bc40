#pragma once
// Shapes and options that the Dice loss's tests and benchmarks go through.

#include "core/kernels/dice_loss.h"

namespace eq::cases {

struct DiceLossCase {
  const char* name;
  Shape logits;  // [..., C]
  DType labels = DType::kUInt8;
  DiceLossOptions options = {};
  int64_t named = 0;     // labels name the first classes only; 0: all
  double ignored = 0.2;  // share of ignored positions
};

inline const DiceLossCase kDiceLossCases[] = {
    {"plain", {2, 3, 5, 11}},
    {"squared", {2, 3, 5, 11}, DType::kInt32, {.squared = true}},
    {"smooth", {7, 19}, DType::kInt64, {.smooth = 1}},
    {"squared and smooth", {3, 5, 19}, DType::kUInt8, {.squared = true, .smooth = 0.5}},
    {"absent classes", {5, 9, 8}, DType::kUInt8, {}, 3},
    {"absent classes, mean over all", {5, 9, 8}, DType::kInt32, {.mean = DiceLossOptions::Mean::kAll}, 3},
    {"absent classes, squared, smooth, all",
     {41, 21},
     DType::kUInt8,
     {.mean = DiceLossOptions::Mean::kAll, .squared = true, .smooth = 2},
     5},
    {"two classes", {41, 2}},
    {"one class", {4, 1}},
    {"one position", {1, 5}, DType::kUInt8, {}, 0, 0},
    {"a vector of classes", {3, 4, 16}},
    {"ADE20K's classes", {2, 3, 150}},
    {"nothing ignored", {6, 7, 4}, DType::kUInt8, {}, 0, 0},
    {"everything ignored", {3, 3, 6}, DType::kUInt8, {.smooth = 1}, 0, 1},
};

// Logits at full resolution.
inline const DiceLossCase kDiceLossNetworkCases[] = {
    {"CamVid", {8, 256, 256, 11}},
    {"Cityscapes", {8, 256, 256, 19}},
    {"ADE20K", {2, 512, 512, 150}},
};

}  // namespace eq::cases
