#pragma once
// The interpolation in fused_conv2d.h: from the products of each tap at a branch's own size to the convolution's result, and its adjoint.

#include <vector>

#include "core/kernels/conv2d_finish.h"

namespace eq::cpu {

// What the convolution slides over: pictures of in_h x in_w, resized to that from the maps' sizes, padded by `top` and `left` (and as much
// below and right as the result needs).
struct TapWindow {
  int64_t kernel_h, kernel_w, top, left, in_h, in_w, out_h, out_w;
  bool align_corners;
  int64_t taps() const { return kernel_h * kernel_w; }
};

// Output channels in blocks of whole vectors, the last of which may be padded. A map is [N, h, w, block, tap, channel in block].
struct ChannelBlocks {
  ChannelBlocks(int64_t channels, int64_t lanes);
  int64_t channels, size, count;
  int64_t padded() const { return count * size; }
};

// y [N,out_h,out_w,channels] += the taps' maps, interpolated, and outside[tap][channel] for each tap outside of the picture (null: zeros);
// then it is finished.
template <class T>
void add_tap_maps(const std::vector<Tensor>& maps, const T* outside, const conv::Finish<T>& finish, Tensor& y, const TapWindow& window,
                  const ChannelBlocks& blocks);
// Its adjoint: every element of the maps is written.
template <class T>
void gather_tap_maps(const Tensor& grad_y, std::vector<Tensor>& grad_maps, const TapWindow& window, const ChannelBlocks& blocks);
// sums[tap][channel] = sum of grad_y where the tap is outside.
template <class T>
void sum_outside(const Tensor& grad_y, T* sums, const TapWindow& window);

}  // namespace eq::cpu
