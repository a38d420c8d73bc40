#include "autograd/ops/fused_conv2d_checks.h"

#include "autograd/checks.h"
#include "autograd/functional.h"
#include "autograd/node.h"
#include "autograd/ops/fuse_levels_checks.h"
#include "core/kernels/resize.h"

namespace eq {
namespace {

constexpr const char* kFusedConv2d = "fused_conv2d";

struct FusedConv2dBackward final : Node {
  FusedConv2dBackward(const std::vector<Tensor>& branches, const Tensor& weight, const FuseLevelsOptions& levels, const Conv2dOptions& conv)
      : Node(kFusedConv2d), weight_(save(weight)), border_(save(levels.border)), levels_(levels), conv_(conv) {
    for (const Tensor& branch : branches) {
      shapes_.push_back(branch.shape());
      branches_.push_back(&save(weight.requires_grad() ? branch : Tensor()));
    }
    for (const Tensor& shift : levels.shift) shift_.push_back(&save(shift));
    for (const Tensor& scale : levels.scale) scale_.push_back(&save(scale));
    levels_.border = {};  // these are saved, with their versions
    levels_.shift.clear();
    levels_.scale.clear();
  }
  TensorList backward(const TensorList& grads) override {
    const Tensor& weight = weight_.get();
    FuseLevelsOptions levels = levels_;
    levels.border = border_.get();
    for (const SavedTensor* shift : shift_) levels.shift.push_back(shift->get());
    for (const SavedTensor* scale : scale_) levels.scale.push_back(scale->get());
    std::vector<Tensor> branches;
    cpu::FusedConv2dGradients result;
    const int count = int(shapes_.size());
    for (int i = 0; i < count; ++i) {
      branches.push_back(branches_[size_t(i)]->get());
      result.branches.push_back(needs(i) ? Tensor::empty(shapes_[size_t(i)], weight.dtype()) : Tensor());
    }
    if (needs(count)) result.weight = Tensor::empty_like(weight);
    if (needs(count + 1)) result.bias = Tensor::empty({weight.size(0)}, weight.dtype());
    EQ_RUN_ON_CPU(fused_conv2d_backward(grads[0], branches, shapes_, weight, result, levels, conv_));
    TensorList list = result.branches;
    list.insert(list.end(), {result.weight, result.bias});
    return list;
  }

  SavedTensor &weight_, &border_;
  std::vector<SavedTensor*> branches_, shift_, scale_;  // branches are kept only where the weight learns
  std::vector<Shape> shapes_;
  FuseLevelsOptions levels_;
  Conv2dOptions conv_;
};

}  // namespace

bool check::commutes(const std::vector<Tensor>& branches, const Tensor& weight, const Tensor& bias, const FuseLevelsOptions& levels,
                     const Conv2dOptions& conv, Shape& y) {
  std::vector<Shape> shapes;
  for (const Tensor& branch : branches) shapes.push_back(branch.shape());
  if (!commutes_with_resizing(shapes, levels, conv)) return false;
  int64_t channels = 0;
  for (const Tensor& branch : branches) channels += branch.size(3);
  const DType type = branches[0].dtype();
  const auto fits = [&](const Tensor& t) { return t.dtype() == type && t.device().is_cpu(); };
  if (!branches[0].device().is_cpu() || !weight.defined() || !fits(weight) || weight.rank() != 4 || weight.numel() == 0 ||
      weight.size(3) != channels) {
    return false;
  }
  if (bias.defined() && !(fits(bias) && bias.shape() == Shape{weight.size(0)})) return false;
  const int64_t padding[] = {conv.pad_top, conv.pad_bottom, conv.pad_left, conv.pad_right};
  for (int64_t pad : padding) {
    if (pad < 0 || pad > kMaxResizeExtent) return false;
  }
  y = {branches[0].size(0), conv_output_size(levels.out_h + 2 * levels.pad_h, weight.size(1), 1, 1, conv.pad_top, conv.pad_bottom),
       conv_output_size(levels.out_w + 2 * levels.pad_w, weight.size(2), 1, 1, conv.pad_left, conv.pad_right), weight.size(0)};
  return y[1] > 0 && y[2] > 0;
}

Tensor fused_conv2d(const std::vector<Tensor>& branches, const Tensor& weight, const Tensor& bias, const FuseLevelsOptions& levels,
                    const Conv2dOptions& conv) {
  check::levels(kFusedConv2d, branches, levels);
  Shape shape;
  if (tracing() || !check::commutes(branches, weight, bias, levels, conv, shape)) {
    return conv2d(fuse_levels(branches, levels), weight, bias, conv);
  }
  Tensor y = Tensor::empty(shape, weight.dtype());
  EQ_RUN_ON_CPU(fused_conv2d_forward(branches, weight, bias, y, levels, conv));
  std::vector<Tensor> inputs = branches;
  inputs.insert(inputs.end(), {weight, bias});
  record<FusedConv2dBackward>(y, inputs, branches, weight, levels, conv);
  return y;
}

}  // namespace eq
