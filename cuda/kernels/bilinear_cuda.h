#pragma once
// The bilinear kernels that resize and fuse_levels share (core/kernels/bilinear.h).

#include <vector>

#include "core/kernels/bilinear.h"
#include "core/kernels/resize.h"
#include "cuda/pack.h"

namespace eq::cuda {

enum class Reading { kBilinear, kAlignedCorners, kNearest };

// What an output position reads: `lower` of the cell, and `upper` of the next one if that is not 0.
template <class W>
struct alignas(16) AxisTap {
  int cell;
  W lower, upper;
};

// What a cell is read by: `count` outputs from `begin` on, the k-th with the weight 1 - |t| where t = start + k step, cut off at
// the borders to [low, high].
template <class W>
struct alignas(16) AxisReach {
  int begin, count;
  W start, low, high, step;

  EQ_HOST_DEVICE W weight(int k) const {
    const W t = start + W(k) * step;
    return W(1) - std::abs(std::max(low, std::min(high, t)));
  }
};

// One axis of a resize, [out] taps and [in] reaches, computed on the host in exact integers once for each pair of extents: in a
// kernel their divisions would cost more than the interpolation.
template <class W>
struct Axis {
  Tensor memory;  // of both; to be kept until the launch
  const AxisTap<W>* taps;
  const AxisReach<W>* reaches;
  int most_reads;  // of a cell
};
template <class W>
Axis<W> axis_of(Device device, int64_t in, int64_t out, Reading reading);

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
