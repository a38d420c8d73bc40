#pragma once
// Every differentiable operator, one declaration each. Formulas, shapes and options are in the operator's card,
// core/kernels/<op>.h; the recorded half is autograd/ops/<op>.cpp. Errors: ShapeError, DTypeError or DeviceError naming the
// operator, the argument and the shapes, thrown before any work. Optional arguments may be undefined tensors.

#include <utility>
#include <vector>

#include "core/kernels/batch_norm.h"
#include "core/kernels/conv2d.h"
#include "core/kernels/conv2d_batch_norm.h"
#include "core/kernels/cross_entropy.h"
#include "core/kernels/dice_loss.h"
#include "core/kernels/fuse_levels.h"
#include "core/kernels/fused_conv2d.h"
#include "core/kernels/hard_examples.h"
#include "core/kernels/pool2d.h"
#include "core/tensor.h"

namespace eq {

// --- elementwise, binary: NumPy broadcasting; both arguments of one floating type (core/kernels/elementwise.h) ---
Tensor add(const Tensor& a, const Tensor& b);
Tensor sub(const Tensor& a, const Tensor& b);
Tensor mul(const Tensor& a, const Tensor& b);
Tensor div(const Tensor& a, const Tensor& b);
Tensor maximum(const Tensor& a, const Tensor& b);  // at ties each argument gets half of the gradient
Tensor minimum(const Tensor& a, const Tensor& b);
Tensor add(const Tensor& a, double b);
Tensor mul(const Tensor& a, double b);
Tensor div(const Tensor& a, double b);
Tensor sub(double a, const Tensor& b);
Tensor div(double a, const Tensor& b);
Tensor pow(const Tensor& a, double exponent);

inline Tensor operator+(const Tensor& a, const Tensor& b) { return add(a, b); }
inline Tensor operator-(const Tensor& a, const Tensor& b) { return sub(a, b); }
inline Tensor operator*(const Tensor& a, const Tensor& b) { return mul(a, b); }
inline Tensor operator/(const Tensor& a, const Tensor& b) { return div(a, b); }
inline Tensor operator+(const Tensor& a, double b) { return add(a, b); }
inline Tensor operator+(double a, const Tensor& b) { return add(b, a); }
inline Tensor operator-(const Tensor& a, double b) { return add(a, -b); }
inline Tensor operator-(double a, const Tensor& b) { return sub(a, b); }
inline Tensor operator*(const Tensor& a, double b) { return mul(a, b); }
inline Tensor operator*(double a, const Tensor& b) { return mul(b, a); }
inline Tensor operator/(const Tensor& a, double b) { return div(a, b); }
inline Tensor operator/(double a, const Tensor& b) { return div(a, b); }

// --- elementwise, unary ---
Tensor neg(const Tensor& x);
Tensor exp(const Tensor& x);
Tensor log(const Tensor& x);
Tensor sqrt(const Tensor& x);
Tensor rsqrt(const Tensor& x);
Tensor square(const Tensor& x);
Tensor reciprocal(const Tensor& x);
Tensor abs(const Tensor& x);        // gradient 0 at 0
Tensor sin(const Tensor& x);
Tensor cos(const Tensor& x);
Tensor tanh(const Tensor& x);
Tensor sigmoid(const Tensor& x);
Tensor softplus(const Tensor& x);
Tensor relu(const Tensor& x);       // gradient 0 at 0
Tensor relu6(const Tensor& x);
Tensor gelu(const Tensor& x);       // the erf form
Tensor silu(const Tensor& x);
Tensor hardswish(const Tensor& x);  // gradient -1/2 at -3 and 3/2 at 3
Tensor leaky_relu(const Tensor& x, double slope);
Tensor clamp(const Tensor& x, double low, double high);
inline Tensor operator-(const Tensor& x) { return neg(x); }

// --- reductions over `axes` (all when empty); negative axes count from the end (core/kernels/reduce.h) ---
Tensor sum(const Tensor& x, const std::vector<int>& axes = {}, bool keepdim = false);
Tensor mean(const Tensor& x, const std::vector<int>& axes = {}, bool keepdim = false);
Tensor var(const Tensor& x, const std::vector<int>& axes = {}, bool unbiased = true, bool keepdim = false);
Tensor max(const Tensor& x, int axis, bool keepdim = false);  // the gradient goes to the first maximum; NaN wins
Tensor argmax(const Tensor& x, int axis);                     // int64, the first maximum; not differentiable

// --- type ---
Tensor cast(const Tensor& x, DType dtype);  // between floating types; the gradient is cast back. x itself if nothing changes

// --- shape ---
Tensor reshape(const Tensor& x, const Shape& shape);          // a view
Tensor reshape(const Tensor& x, const std::vector<int64_t>& extents);  // one of them may be -1
inline Tensor reshape(const Tensor& x, std::initializer_list<int64_t> extents) {
  return reshape(x, std::vector<int64_t>(extents));
}
Tensor permute(const Tensor& x, const std::vector<int>& axes);
Tensor transpose(const Tensor& x, int axis_a, int axis_b);
Tensor expand(const Tensor& x, const Shape& shape);           // broadcast to `shape`, copying
Tensor slice(const Tensor& x, int axis, int64_t begin, int64_t end);  // a view when axis is 0
Tensor concat(const std::vector<Tensor>& inputs, int axis);
// The whole of x in parts, whose gradients are joined in one pass; views when axis is 0, x itself if it is the only part.
std::vector<Tensor> split(const Tensor& x, const std::vector<int64_t>& extents, int axis);
Tensor pad2d(const Tensor& x, int64_t top, int64_t bottom, int64_t left, int64_t right, double value = 0);  // [N,H,W,C]; negative crops

// --- products (core/kernels/matmul.h) ---
// [M,K]x[K,N], or [M,K]x[N,K] by the transpose of b; with leading batch axes that broadcast.
Tensor matmul(const Tensor& a, const Tensor& b, bool transpose_b = false);
// [..., I] x [O, I] -> [..., O]. A layer that is applied many times passes a cache for what is made of its weight.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, WeightCache* cache = nullptr);

// --- images and features, [N, H, W, C] ---
// On the CPU 3x3 filters of stride 1 go by Winograd's algorithm in float32, where that pays: results differ from the direct sum by rounding
// (2e-7), and an infinity or NaN reaches values up to three pixels outside its window. `--convolution direct`, in C++
// cpu::allow_winograd(false), forbids it.
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dOptions& options);
Tensor max_pool2d(const Tensor& x, const Pool2dOptions& options);
Tensor avg_pool2d(const Tensor& x, const Pool2dOptions& options);
Tensor adaptive_avg_pool2d(const Tensor& x, int64_t out_h, int64_t out_w);
Tensor resize_bilinear(const Tensor& x, int64_t out_h, int64_t out_w, bool align_corners);
Tensor resize_nearest(const Tensor& x, int64_t out_h, int64_t out_w);
// Resizes each branch bilinearly to the target size, applies (v - shift) * scale per branch and channel, and writes it into its
// channel range of the result: [N,h_i,w_i,C_i] -> [N,H,W,sum C_i]. Layers use it through FusionSite only.
Tensor fuse_levels(const std::vector<Tensor>& branches, const FuseLevelsOptions& options);
// conv2d(fuse_levels(branches, levels), weight, bias, conv), on the CPU without the concatenation where that pays.
Tensor fused_conv2d(const std::vector<Tensor>& branches, const Tensor& weight, const Tensor& bias, const FuseLevelsOptions& levels,
                    const Conv2dOptions& conv);
// A convolution, batch norm in evaluation, the sum with `residual` and ReLU: one operator where nothing is recorded, on the CPU; elsewhere
// those four. The bits are the same. A layer that is applied many times passes a cache for what is made of its weight.
Tensor conv2d_batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dOptions& conv, const InferenceNorm& norm,
                         const Tensor& residual = {}, WeightCache* cache = nullptr);
Tensor fused_conv2d_batch_norm(const std::vector<Tensor>& branches, const Tensor& weight, const Tensor& bias,
                               const FuseLevelsOptions& levels, const Conv2dOptions& conv, const InferenceNorm& norm);

// Squares of size x size pixels as rows, [N*rows*columns, size*size, C], for attention within them: of the image padded with zeros to whole
// windows and rolled by -shift. join_windows is the inverse, `image` its shape. Any element type (core/kernels/windows.h).
Tensor split_windows(const Tensor& image, int64_t size, int64_t shift);
Tensor join_windows(const Tensor& windows, const Shape& image, int64_t size, int64_t shift);

// --- normalisation over [..., C]; gamma and beta [C] or undefined ---
// Training mode uses and updates the batch statistics (see BatchNormOptions); activation relu is fused on request.
Tensor batch_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, Tensor& running_mean, Tensor& running_var,
                  const BatchNormOptions& options);
Tensor layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps);          // over the last axis
Tensor group_norm(const Tensor& x, int64_t groups, const Tensor& gamma, const Tensor& beta, double eps);  // [N,...,C]

// --- probabilities and losses ---
Tensor softmax(const Tensor& x);      // over the last axis
Tensor log_softmax(const Tensor& x);
Tensor cross_entropy(const Tensor& logits, const Tensor& labels, const CrossEntropyOptions& options = {});
Tensor dice_loss(const Tensor& logits, const Tensor& labels, const DiceLossOptions& options = {});
// The labels with those that are answered well enough replaced by the ignore index; not differentiable.
Tensor hard_examples(const Tensor& logits, const Tensor& labels, const HardExamplesOptions& options = {});

// --- regularisation: a pure function of (seed, stream), so a resumed run draws the same; p = probability of a zero ---
Tensor dropout(const Tensor& x, double p, uint64_t seed, uint64_t stream);
Tensor channel_dropout(const Tensor& x, double p, uint64_t seed, uint64_t stream);  // whole channels of [N,H,W,C]

}  // namespace eq
