#pragma once
// The bilinear kernels that resize and fuse_levels share (core/kernels/bilinear.h).

#include <vector>

#include "core/kernels/bilinear.h"
#include "core/kernels/resize.h"
#include "cuda/pack.h"

namespace eq::cuda {

enum class Reading { kBilinear, kAlignedCorners, kNearest };

void bilinear_forward(const std::vector<BilinearBranch>& branches, Tensor& y, bool align_corners,
                      const BilinearBorder& border = {});
void resize_backward(const Tensor& grad_y, const std::vector<BilinearBranch>& branches, Reading reading,
                     const BilinearBorder& border = {});

// Calls fn.template operator()<N>() with N neighbouring channels that all branches can be read in.
template <class T, class Fn>
void with_branch_packs(const Tensor& whole, const std::vector<BilinearBranch>& branches, Fn&& fn) {
  bool fit = on_16_bytes(whole.raw_data());
  for (const BilinearBranch& branch : branches) {
    fit = fit && branch.channels % kPackWidth<T> == 0 && (!branch.x.defined() || on_16_bytes(branch.x.raw_data()));
  }
  if (fit) return fn.template operator()<kPackWidth<T>>();
  fn.template operator()<1>();
}

}  // namespace eq::cuda
