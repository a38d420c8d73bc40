#pragma once
// Convolution by this project's own kernels: what conv2d_cuda.cu calls where it does not call cuDNN. Parameters and
// meaning are those of the card, core/kernels/conv2d.h; float32, float64 and bfloat16 (all arguments of one type; sums in
// float32). Depthwise layers (one filter per channel) go to conv2d_depthwise_cuda.cu, all others to the tiles of
// conv2d_gemm.h.

#include "core/kernels/conv2d.h"

namespace eq::cuda {

void own_conv2d_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& y, const Conv2dOptions& options);
void own_conv2d_backward_input(const Tensor& grad_y, const Tensor& weight, Tensor& grad_x, const Conv2dOptions& options);
void own_conv2d_backward_weight(const Tensor& grad_y, const Tensor& x, Tensor& grad_weight, const Conv2dOptions& options);

// The two families, of the same meaning; `depthwise` takes groups == in == out channels only. Tests and benchmarks may
// insist on a size of tile. Where channels are no multiple of 16 bytes, and in float64, there are small ones only; oblong
// ones only in bfloat16.
enum class Tiles { kByShape, kSmall, kOblong, kLarge };
template <class T>
void gemm_conv2d_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& y, const Conv2dOptions& options,
                         Tiles tiles = Tiles::kByShape);
template <class T>
void gemm_conv2d_backward_input(const Tensor& grad_y, const Tensor& weight, Tensor& grad_x, const Conv2dOptions& options,
                         Tiles tiles = Tiles::kByShape);
template <class T>
void gemm_conv2d_backward_weight(const Tensor& grad_y, const Tensor& x, Tensor& grad_weight, const Conv2dOptions& options,
                         Tiles tiles = Tiles::kByShape);

template <class T>
void depthwise_conv2d_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& y, const Conv2dOptions& options);
template <class T>
void depthwise_conv2d_backward_input(const Tensor& grad_y, const Tensor& weight, Tensor& grad_x, const Conv2dOptions& options);
template <class T>
void depthwise_conv2d_backward_weight(const Tensor& grad_y, const Tensor& x, Tensor& grad_weight, const Conv2dOptions& options);

}  // namespace eq::cuda
