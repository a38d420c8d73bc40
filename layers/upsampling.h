#pragma once
// How feature maps are brought to the size at which levels meet.

#include <cstdint>
#include <string>

#include "core/tensor.h"

namespace eq {

// "bilinear", or "nearest": each value is repeated, position j of m taking cell floor(j n/m). Repeating keeps the variance of a feature,
// which bilinear resizing lowers: what tells the paper's cause from others.
struct Upsampling {
  std::string mode = "bilinear";
  bool align_corners = false;  // bilinear

  bool is_nearest() const { return mode == "nearest"; }
  void check() const;  // throws UsageError for another mode

  Tensor resize(const Tensor& x, int64_t out_h, int64_t out_w) const;  // [N,h,w,C] to [N,out_h,out_w,C]; x itself where that is its size
  // What is left of the variance along one axis of cells whose neighbours have the correlation `lag_one`: bilinear_variance_factor, or 1.
  // For nearest: of values that are repeated equally often, as in whole ratios, and in expectation for others. Throws as that does.
  double variance_factor(int64_t in, int64_t out, double lag_one = 0) const;
};

}  // namespace eq
