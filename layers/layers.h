#pragma once
// The building blocks. Feature maps are [N, H, W, C]. Parameter names and meanings are PyTorch's.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "autograd/functional.h"
#include "layers/init.h"
#include "layers/module.h"

namespace eq {

// A parameter, which may be undefined, for a product with x: parameters are float32, and beside bfloat16 features they are cast.
Tensor in_type_of(const Tensor& x, const Tensor& parameter);

struct Conv2dLayerOptions {
  int64_t kernel_size = 1;
  int64_t stride = 1;
  int64_t padding = 0;
  int64_t dilation = 1;
  int64_t groups = 1;
  bool bias = true;
  bool same = false;  // TensorFlow's SAME instead of `padding`: ceil(size / stride) outputs, an odd share at the bottom and right
};

// weight [O,k,k,I/groups] (file [O,I/groups,k,k]), bias [O]. Initialised He-normal by fan-out; the bias is zero.
class Conv2d : public Layer {
 public:
  Conv2d(int64_t in_channels, int64_t out_channels, const Conv2dLayerOptions& options);
  Tensor forward(const Tensor& x) final;  // forward_norm knows what it is
  // Of fuse_levels(branches, levels), which need not be computed. No observer sees it.
  Tensor forward_fused(const std::vector<Tensor>& branches, const FuseLevelsOptions& levels) const;
  // Either with a norm in evaluation behind it; the first one with a residual, if it is defined. No observer sees them.
  Tensor forward_norm(const Tensor& x, const InferenceNorm& norm, const Tensor& residual);
  Tensor forward_fused_norm(const std::vector<Tensor>& branches, const FuseLevelsOptions& levels, const InferenceNorm& norm) const;
  int64_t macs(const Tensor& input, const Tensor& output) const override;
  std::string description() const override;
  const Tensor& weight() const { return weight_; }
  const Tensor& bias() const { return bias_; }
  const Conv2dOptions& options() const { return options_; }  // without the padding that `same` adds
  bool pads_to_same() const { return same_; }
  void set_padding(int64_t rows, int64_t columns);  // zeros above and below, left and right

 private:
  Conv2dOptions options_for(const Tensor& x) const;  // with the padding that `same` adds
  Conv2dOptions options_for(const FuseLevelsOptions& levels) const;
  Conv2dOptions options_for(int64_t height, int64_t width) const;  // of the input

  Conv2dOptions options_;
  bool same_;
  Tensor weight_, bias_;
  WeightCache cache_;  // of inference
};

// weight [O,I], bias [O]; uniform in +-1/sqrt(I), as PyTorch.
class Linear : public Layer {
 public:
  Linear(int64_t in_features, int64_t out_features, bool bias = true);
  Tensor forward(const Tensor& x) override;
  int64_t macs(const Tensor& input, const Tensor& output) const override;
  std::string description() const override;
  const Tensor& weight() const { return weight_; }
  const Tensor& bias() const { return bias_; }

 private:
  Tensor weight_, bias_;
  WeightCache cache_;  // of inference
};

struct BatchNorm2dOptions {
  double eps = 1e-5;
  std::optional<double> momentum =
      0.1;  // weight of a new batch in the running statistics; none: they are the plain average of all batches since the reset
  bool relu = false;                     // fused activation
};

// Buffers running_mean, running_var [C] and num_batches_tracked. In training it normalises by the batch's statistics.
class BatchNorm2d : public Layer {
 public:
  explicit BatchNorm2d(int64_t num_features, const BatchNorm2dOptions& options = {});  // throws UsageError for options out of range
  Tensor forward(const Tensor& x) final;  // inference() knows what it is
  std::string description() const override;
  Tensor& gamma() { return gamma_; }
  Tensor& running_mean() { return running_mean_; }
  Tensor& running_var() { return running_var_; }
  int64_t batches_tracked() const { return num_batches_tracked_.data<int64_t>()[0]; }
  std::optional<double> momentum() const { return options_.momentum; }
  void set_momentum(std::optional<double> momentum) { options_.momentum = momentum; }
  void set_running_stats(const Tensor& mean, const Tensor& var, int64_t batches_tracked);
  void reset_running_stats();       // mean 0, variance 1, no batch tracked
  InferenceNorm inference() const;  // what it does in evaluation

 private:
  BatchNorm2dOptions options_;
  Tensor gamma_, beta_, running_mean_, running_var_, num_batches_tracked_;
};

class LayerNorm : public Layer {
 public:
  explicit LayerNorm(int64_t num_features, double eps = 1e-5);
  Tensor forward(const Tensor& x) override { return layer_norm(x, gamma_, beta_, eps_); }
  std::string description() const override;

 private:
  double eps_;
  Tensor gamma_, beta_;
};

class GroupNorm : public Layer {
 public:
  GroupNorm(int64_t groups, int64_t num_channels, double eps = 1e-5);
  Tensor forward(const Tensor& x) override { return group_norm(x, groups_, gamma_, beta_, eps_); }
  std::string description() const override;

 private:
  int64_t groups_;
  double eps_;
  Tensor gamma_, beta_;
};

// An activation by its functional form: Activation(relu), Activation(gelu), ...
class Activation : public Layer {
 public:
  explicit Activation(Tensor (*function)(const Tensor&), std::string name = "activation");  // throws UsageError for none
  Tensor forward(const Tensor& x) override { return function_(x); }
  std::string description() const override { return name_; }

 private:
  Tensor (*function_)(const Tensor&);
  std::string name_;
};

class MaxPool2d : public Layer {
 public:
  MaxPool2d(int64_t kernel_size, int64_t stride, int64_t padding = 0)
      : options_(Pool2dOptions::square(kernel_size, stride, padding)) {}
  Tensor forward(const Tensor& x) override { return max_pool2d(x, options_); }
  std::string description() const override { return "MaxPool2d"; }

 private:
  Pool2dOptions options_;
};

class AvgPool2d : public Layer {
 public:
  AvgPool2d(int64_t kernel_size, int64_t stride, int64_t padding = 0)
      : options_(Pool2dOptions::square(kernel_size, stride, padding)) {}
  Tensor forward(const Tensor& x) override { return avg_pool2d(x, options_); }
  std::string description() const override { return "AvgPool2d"; }

 private:
  Pool2dOptions options_;
};

class AdaptiveAvgPool2d : public Layer {
 public:
  explicit AdaptiveAvgPool2d(int64_t bins) : bins_(bins) {}
  Tensor forward(const Tensor& x) override { return adaptive_avg_pool2d(x, bins_, bins_); }
  std::string description() const override { return "AdaptiveAvgPool2d(" + std::to_string(bins_) + ")"; }

 private:
  int64_t bins_;
};

// Bilinear, by an integer or fractional factor.
class Upsample : public Layer {
 public:
  Upsample(double scale_factor, bool align_corners) : scale_(scale_factor), align_corners_(align_corners) {}
  Tensor forward(const Tensor& x) override;
  std::string description() const override { return "Upsample"; }

 private:
  double scale_;
  bool align_corners_;
};

// Zeroes elements, whole channels or whole samples (stochastic depth, Huang et al. 2016: "drop path") with probability p in training and
// scales the others by 1 / (1 - p). The mask is a pure function of (seed, stream). Each call draws a new one, of streams that are the
// layer's own and follow from InitRandom's seed, so that a program that is run again draws the same. Who resumes, as the trainer does, says
// the stream of each step (set_stream; EncoderDecoder::set_step for a whole network): from then on calls repeat its mask.
class Dropout : public Layer {
 public:
  enum class Kind { kElement, kChannel, kSample };
  explicit Dropout(double p, Kind kind = Kind::kElement);
  Tensor forward(const Tensor& x) override;
  std::string description() const override;
  void set_stream(uint64_t seed, uint64_t stream) {
    seed_ = seed;
    stream_ = stream;
    draws_streams_ = false;
  }

 private:
  double p_;
  Kind kind_;
  uint64_t seed_, stream_;
  bool draws_streams_ = true;  // until set_stream: stream_ goes up with each call
};

// norm(conv(x)). In evaluation on the CPU they are one operator, unless a LayerObserver wants to see each of them.
Tensor conv_norm(Conv2d& conv, BatchNorm2d& norm, const Tensor& x);
// relu(norm(conv(x)) + shortcut()), likewise.
Tensor conv_norm_add_relu(Conv2d& conv, BatchNorm2d& norm, const Tensor& x, const std::function<Tensor()>& shortcut);

// The layers one after the other; a convolution and a norm right behind it are conv_norm.
Tensor forward_in_order(const std::vector<Layer*>& layers, const Tensor& x);

// Layers applied one after the other, named by their place ("0", "1", ...) or as given. Throws UsageError for a name that is taken.
class Sequential : public Layer {
 public:
  template <class L, class... Args>
  L& append(Args&&... args) { return append_as<L>(std::to_string(layers_.size()), std::forward<Args>(args)...); }
  template <class L, class... Args>
  L& append_as(const std::string& name, Args&&... args) {
    check_free(name);
    L& layer = register_module<L>(name, std::forward<Args>(args)...);
    layers_.push_back(&layer);
    return layer;
  }
  Tensor forward(const Tensor& x) override { return forward_in_order(layers_, x); }
  size_t size() const { return layers_.size(); }
  Layer& operator[](size_t i) { return *layers_[i]; }

 private:
  void check_free(const std::string& name) const;

  std::vector<Layer*> layers_;
};

// Children named "0", "1", ... without an order of application.
template <class M>
class ModuleList : public Module {
 public:
  template <class Derived = M, class... Args>
  Derived& append(Args&&... args) {
    Derived& child = register_module<Derived>(std::to_string(children_.size()), std::forward<Args>(args)...);
    children_.push_back(&child);
    return child;
  }
  size_t size() const { return children_.size(); }
  M& operator[](size_t i) { return *children_[i]; }

 private:
  std::vector<M*> children_;
};

// mmsegmentation's ConvModule: convolution without bias ("conv"), batch norm ("bn"), ReLU; padded to keep the size at stride 1.
class ConvModule : public Layer {
 public:
  ConvModule(int64_t in_channels, int64_t out_channels, int64_t kernel_size, int64_t dilation = 1, int64_t groups = 1);
  Tensor forward(const Tensor& x) override { return conv_norm(conv_, bn_, x); }
  Conv2d& conv() { return conv_; }
  BatchNorm2d& bn() { return bn_; }

 private:
  Conv2d& conv_;
  BatchNorm2d& bn_;
};

// mmcv's: a depthwise ConvModule ("depthwise_conv"), then a 1x1 one ("pointwise_conv").
class DepthwiseSeparableConvModule : public Layer {
 public:
  DepthwiseSeparableConvModule(int64_t in_channels, int64_t out_channels, int64_t kernel_size, int64_t dilation = 1);
  Tensor forward(const Tensor& x) override { return pointwise_(depthwise_(x)); }
  ConvModule& depthwise() { return depthwise_; }

 private:
  ConvModule& depthwise_;
  ConvModule& pointwise_;
};

}  // namespace eq
