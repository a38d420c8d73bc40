#pragma once
// Where a convolution reads, along each spatial axis. Forward and backward input are both correlations that gather:
// output i, at place first + i * every, sums over taps the input at origin + i * step + tap * spread (outside [0, in)
// there are zeros) times the filter at tap_first + tap * tap_every. The input gradient of a stride is one such
// correlation per phase (place modulo stride). 32 bits: extents and paddings are at most 2^30, so positions fit; sums of
// parts may wrap, so they are unsigned.

#include <algorithm>
#include <numeric>

#include "core/host_device.h"
#include "core/kernels/conv2d.h"

namespace eq::cuda {

EQ_HOST_DEVICE inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }  // a >= 0, b > 0

struct CorrelationAxis {
  int out, first, every;
  int in, origin, step, spread;
  int taps, tap_first, tap_every;
};

// One axis of a convolution from `in` to `out` positions.
struct ConvolutionAxis {
  int in, out, kernel, stride, dilation, pad;
  int common;  // greatest common divisor of stride and dilation

  EQ_HOST_DEVICE int phases() const { return stride < in ? stride : in; }
  EQ_HOST_DEVICE CorrelationAxis forward() const { return {out, 0, 1, in, -pad, stride, dilation, kernel, 0, 1}; }
  // Inputs phase, phase + stride, ...: those read outputs (place + pad - r * dilation) / stride for all r that leave no
  // remainder. They are every (stride / common)-th r; taps ascend in position, so r descends.
  EQ_HOST_DEVICE CorrelationAxis backward(int phase) const {
    const int every = stride / common;
    int first = 0;
    while (first < kernel && first < every && (int64_t(phase) + pad - int64_t(first) * dilation) % stride != 0) ++first;
    const bool none = first >= kernel || first >= every;
    const int taps = none ? 0 : (kernel - 1 - first) / every + 1;
    const int last = none ? 0 : first + (taps - 1) * every;
    const int origin = none ? 0 : int((int64_t(phase) + pad - int64_t(last) * dilation) / stride);
    return {(in - 1 - phase) / stride + 1, phase, stride, out, origin, 1, dilation / common, taps, last, -every};
  }
};

struct Convolution {
  ConvolutionAxis h, w;
  int images, groups;
  int in_channels, out_channels;  // per group

  EQ_HOST_DEVICE int64_t in_pixels() const { return int64_t(images) * h.in * w.in; }
  EQ_HOST_DEVICE int64_t out_pixels() const { return int64_t(images) * h.out * w.out; }
  EQ_HOST_DEVICE int64_t filter() const { return int64_t(h.kernel) * w.kernel * in_channels; }  // values of one output channel's
};

inline Convolution convolution_of(const Shape& x, const Shape& weight, const Shape& y, const Conv2dOptions& o) {
  const auto axis = [](int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t dilation, int64_t pad) {
    return ConvolutionAxis{int(in), int(out), int(kernel), int(stride), int(dilation), int(pad), int(std::gcd(stride, dilation))};
  };
  Convolution c{axis(x[1], y[1], weight[1], o.stride_h, o.dilation_h, o.pad_top),
                axis(x[2], y[2], weight[2], o.stride_w, o.dilation_w, o.pad_left),
                int(x[0]),
                int(o.groups),
                int(weight[3]),
                int(weight[0] / o.groups)};
  // The kernels count a filter's values, and the pixels of a picture, in 32 bits.
  constexpr int64_t kMost = int64_t{1} << 30;
  const int64_t taps = int64_t(c.h.kernel) * c.w.kernel;
  const int64_t largest = std::max({taps * std::max(c.in_channels, c.out_channels), int64_t(c.h.in) * c.w.in, int64_t(c.h.out) * c.w.out});
  if (largest > kMost) {
    throw UsageError("conv2d: a filter or a picture of more than 2^30 values", "conv2d on a CUDA device", "cut the picture into tiles");
  }
  return c;
}

}  // namespace eq::cuda
