#pragma once
// The direct convolution: strips of zero-padded input in scratch, weights packed with a block of output channels
// innermost, sums over all taps and channels of a chunk in registers. Forward and backward input are the same
// correlation of different axes with differently packed weights; the weight gradient sums outer products over the
// pixels of a strip.

#include "core/kernels/conv2d_finish.h"
#include "core/kernels/conv2d_window.h"

namespace eq::cpu::conv {

struct Correlation {
  int64_t images = 1, groups = 1;
  int64_t in_channels = 1, out_channels = 1;  // per group
  Axis h, w;
  int64_t y_image = 0, y_row = 0, y_pixel = 0;  // elements between neighbouring outputs in y
};

// The forward convolution of x [N,H,W,I] by weight [O,kh,kw,I/groups] to [N,P,Q,O]. Pixels of a 1x1 convolution that
// skips and pads none are one long row.
Correlation forward_correlation(const Shape& x, const Shape& weight, const Shape& y, const Conv2dOptions& options);

// y = finish(bias + the correlation of x with `weight`); bias may be undefined. `cache`, if not null, keeps the packed weight.
template <class T>
void direct_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, const Finish<T>& finish, WeightCache* cache, Tensor& y,
                    const Conv2dOptions& options);
template <class T>
void direct_backward_input(const Tensor& grad_y, const Tensor& weight, Tensor& grad_x, const Conv2dOptions& options);
template <class T>
void direct_backward_weight(const Tensor& grad_y, const Tensor& x, Tensor& grad_weight, const Conv2dOptions& options);

// Groups of as many output as input channels, 2, 4 or 8, that fill vectors but are narrower than one: forward and backward input
// are the depthwise kernels' below.
template <class T>
bool narrow_groups(int64_t channels, int64_t in_channels, int64_t groups);

// One filter per output channel (groups == I, any multiplier).
template <class T>
void depthwise_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, const Finish<T>& finish, Tensor& y,
                       const Conv2dOptions& options);
template <class T>
void depthwise_backward_input(const Tensor& grad_y, const Tensor& weight, Tensor& grad_x, const Conv2dOptions& options);
template <class T>
void depthwise_backward_weight(const Tensor& grad_y, const Tensor& x, Tensor& grad_weight,
                               const Conv2dOptions& options);

}  // namespace eq::cpu::conv
