#include "core/kernels/fuse_levels.h"

#include <string>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "autograd/ops/fuse_levels_checks.h"
#include "autograd/ops/spatial_checks.h"
#include "core/kernels/resize.h"

namespace eq {
namespace {

constexpr const char* kFuseLevels = "fuse_levels";

struct FuseLevelsBackward final : Node {
  FuseLevelsBackward(const std::vector<Tensor>& branches, const FuseLevelsOptions& options)
      : Node(kFuseLevels), align_corners_(options.align_corners), pad_h_(options.pad_h), pad_w_(options.pad_w) {
    for (const Tensor& branch : branches) {
      shapes_.push_back(branch.shape());
      channels_.push_back(branch.size(3));
    }
    for (const Tensor& scale : options.scale) scale_.push_back(&save(scale));
  }
  TensorList backward(const TensorList& grads) override {
    FuseLevelsOptions options;
    options.align_corners = align_corners_;
    options.pad_h = pad_h_;
    options.pad_w = pad_w_;
    for (const SavedTensor* scale : scale_) options.scale.push_back(scale->get());
    TensorList grad_branches(shapes_.size());
    for (size_t i = 0; i < shapes_.size(); ++i) {
      if (needs(int(i))) grad_branches[i] = Tensor::empty(shapes_[i], grads[0].dtype(), grads[0].device());
    }
    EQ_RUN(grads[0].device(), fuse_levels_backward(grads[0], channels_, grad_branches, options));
    return grad_branches;
  }
  bool align_corners_;
  int64_t pad_h_, pad_w_;
  std::vector<Shape> shapes_;
  std::vector<int64_t> channels_;
  std::vector<SavedTensor*> scale_;
};

void check_constants(const char* op, const char* name, const std::vector<Tensor>& constants, const std::vector<Tensor>& branches) {
  if (constants.empty()) return;
  if (constants.size() != branches.size()) {
    throw ShapeError(std::string(op) + ": there are " + std::to_string(branches.size()) + " branches, but " + name + " has " +
                         std::to_string(constants.size()) + " entries",
                     op, "give one entry per branch (it may be undefined), or none at all");
  }
  for (size_t i = 0; i < constants.size(); ++i) {
    if (!constants[i].defined()) continue;
    const std::string label = std::string(name) + "[" + std::to_string(i) + "]";
    check::parameters(op, {"the branch", branches[i]}, {{label.c_str(), constants[i]}});
    const int64_t channels = branches[i].size(3);
    if (constants[i].shape() == Shape{1}) continue;
    check::shape(op, {label.c_str(), constants[i]}, {channels}, "[1] or [" + std::to_string(channels) + "]");
  }
}

void trace_levels(const Tensor& y, const std::vector<Tensor>& branches, const FuseLevelsOptions& options) {
  std::vector<Tensor> inputs = branches;
  for (const std::vector<Tensor>& constants : {options.shift, options.scale}) {
    inputs.insert(inputs.end(), constants.begin(), constants.end());
    if (constants.empty()) inputs.resize(inputs.size() + branches.size());
  }
  inputs.push_back(options.border);
  trace(kFuseLevels, y, inputs, TracedLevels{options.out_h, options.out_w, options.align_corners, options.pad_h, options.pad_w});
}

}  // namespace

void check::levels(const char* op, const std::vector<Tensor>& branches, const FuseLevelsOptions& options) {
  const std::string name = op;
  if (branches.empty()) throw UsageError(name + ": there are no branches", op, "pass at least one");
  int64_t channels = 0;
  for (size_t i = 0; i < branches.size(); ++i) {
    const std::string label = std::string("branches[") + std::to_string(i) + "]";
    check::floating(op, {label.c_str(), branches[i]});
    check::alike(op, {{"branches[0]", branches[0]}, {label.c_str(), branches[i]}});
    check::rank(op, {label.c_str(), branches[i]}, 4);
    check::sides(op, branches[i], options.out_h, options.out_w, kMaxResizeExtent);
    if (branches[i].size(0) != branches[0].size(0)) {
      throw ShapeError(name + ": " + label + " is " + describe(branches[i]) + ", but branches[0] is " + describe(branches[0]), op,
                       "all branches hold the same images");
    }
    channels += branches[i].size(3);
  }
  check_constants(op, "shift", options.shift, branches);
  check_constants(op, "scale", options.scale, branches);
  if (options.pad_h < 0 || options.pad_w < 0 || options.pad_h > kMaxResizeExtent || options.pad_w > kMaxResizeExtent) {
    throw UsageError(name + ": the border has " + std::to_string(options.pad_h) + " rows and " + std::to_string(options.pad_w) + " columns",
                     op, "give 0 or more of each");
  }
  if (options.border.defined()) {
    check::parameters(op, {"branches[0]", branches[0]}, {{"border", options.border}});
    check::shape(op, {"border", options.border}, {channels}, to_string(Shape{channels}) + ", one value per channel of all branches");
  }
}

Tensor fuse_levels(const std::vector<Tensor>& branches, const FuseLevelsOptions& options) {
  check::levels(kFuseLevels, branches, options);
  int64_t channels = 0;
  for (const Tensor& branch : branches) channels += branch.size(3);
  Tensor y = Tensor::empty({branches[0].size(0), options.out_h + 2 * options.pad_h, options.out_w + 2 * options.pad_w, channels},
                           branches[0].dtype(), branches[0].device());
  EQ_RUN(y.device(), fuse_levels_forward(branches, y, options));
  if (tracing()) trace_levels(y, branches, options);
  record<FuseLevelsBackward>(y, branches, branches, options);
  return y;
}

}  // namespace eq
