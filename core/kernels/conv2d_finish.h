#pragma once
// What becomes of a convolution's results while they are still in the first-level cache: batch norm in evaluation, a residual, ReLU
// (conv2d_batch_norm.h). The formulas are those of channel_passes.h and of the elementwise operators. They are applied to values
// that have been stored: a compiler that contracts products and sums would not round a kernel's last step the same way
// with and without something behind it.

#include <algorithm>
#include <vector>

#include "core/kernels/conv2d_batch_norm.h"
#include "core/kernels/conv2d_simd.h"

namespace eq::cpu::conv {

// Of one output tensor. Default: nothing.
template <class T>
class Finish {
 public:
  Finish() = default;
  Finish(const InferenceNorm& norm, const Tensor& residual, Tensor& y);
  explicit operator bool() const { return y_ != nullptr; }

  // To `rows` x `pixels` pixels of y from `at` on, which are `row` and `pixel` elements apart: channels [channel, channel + channels),
  // the first of which is at `at`.
  void apply(T* at, int64_t row, int64_t rows, int64_t pixel, int64_t pixels, int64_t channel, int64_t channels) const {
    for (int64_t c = 0; c < channels; c += kVectorLanes<T>) {
      const int64_t valid = std::min<int64_t>(kVectorLanes<T>, channels - c);
      const Vector<T> mean = load_first(mean_ + channel + c, valid), scale = load_first(scale_.data() + channel + c, valid),
                      shift = load_first(shift_.data() + channel + c, valid);
      for (int64_t i = 0; i < rows; ++i) {
        T* to = at + i * row + c;
        for (int64_t j = 0; j < pixels; ++j, to += pixel) {
          Vector<T> value = (load_first(to, valid) - mean) * scale + shift;
          if (residual_) value += load_first(residual_ + (to - y_), valid);
          if (relu_) value = value < T(0) ? Vector<T>{} : value;  // NaN stays NaN
          store_first(to, value, valid);
        }
      }
    }
  }

 private:
  T* y_ = nullptr;
  const T *mean_ = nullptr, *residual_ = nullptr;
  std::vector<T> scale_, shift_;
  bool relu_ = false;
};

}  // namespace eq::cpu::conv
