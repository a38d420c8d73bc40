#include "layers/layers.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/random.h"

namespace eq {
namespace {

Conv2dOptions kernel_options(const Conv2dLayerOptions& layer) {
  return Conv2dOptions().stride(layer.stride).padding(layer.padding).dilation(layer.dilation).set_groups(layer.groups);
}

std::string number(int64_t value) { return std::to_string(value); }

// Before and after an axis, so that its output has ceil(in / stride) places.
std::pair<int64_t, int64_t> same_padding(int64_t in, int64_t kernel, int64_t stride, int64_t dilation) {
  const int64_t out = (in + stride - 1) / stride;
  const int64_t total = std::max<int64_t>(0, (out - 1) * stride + dilation * (kernel - 1) + 1 - in);
  return {total / 2, total - total / 2};
}

// What fn, an operator of the layer, says of a wrong shape or type is told with the layer's name.
template <class Fn>
Tensor naming_layer(const Module& layer, Fn fn) {
  const auto where = [&](const Error& error) { return layer.path().empty() ? error.where() : layer.path() + ": " + error.where(); };
  try {
    return fn();
  } catch (const ShapeError& error) {
    throw ShapeError(error.what_happened(), where(error), error.try_this());
  } catch (const DTypeError& error) {
    throw DTypeError(error.what_happened(), where(error), error.try_this());
  }
}

}  // namespace

Tensor in_type_of(const Tensor& x, const Tensor& parameter) {
  return parameter.defined() && x.defined() && x.dtype() == DType::kBFloat16 ? cast(parameter, x.dtype()) : parameter;
}

Conv2d::Conv2d(int64_t in_channels, int64_t out_channels, const Conv2dLayerOptions& options)
    : options_(kernel_options(options)), same_(options.same) {
  if (options.kernel_size < 1 || options.stride < 1 || options.dilation < 1) {
    throw UsageError("kernel size, stride and dilation must be at least 1",
                     "Conv2d(" + number(in_channels) + ", " + number(out_channels) + ", kernel size " + number(options.kernel_size) +
                         ", stride " + number(options.stride) + ", dilation " + number(options.dilation) + ")",
                     "1 is the smallest of each");
  }
  if (options.groups < 1 || in_channels % options.groups != 0 || out_channels % options.groups != 0) {
    throw UsageError("groups must divide both channel counts",
                     "Conv2d(" + number(in_channels) + ", " + number(out_channels) + ", groups " + number(options.groups) + ")",
                     "choose another number of groups or channels");
  }
  Tensor weight = Tensor::empty({out_channels, options.kernel_size, options.kernel_size, in_channels / options.groups}, init::dtype());
  init::kaiming_normal_fan_out_(weight, options.groups);
  weight_ = register_parameter("weight", weight, FileLayout::kConvWeight);
  if (options.bias) bias_ = register_parameter("bias", Tensor::zeros({out_channels}, init::dtype()));
}

Conv2dOptions Conv2d::options_for(int64_t height, int64_t width) const {
  Conv2dOptions padded = options_;
  if (!same_) return padded;
  std::tie(padded.pad_top, padded.pad_bottom) = same_padding(height, weight_.size(1), options_.stride_h, options_.dilation_h);
  std::tie(padded.pad_left, padded.pad_right) = same_padding(width, weight_.size(2), options_.stride_w, options_.dilation_w);
  return padded;
}

Conv2dOptions Conv2d::options_for(const Tensor& x) const {
  return x.defined() && x.rank() == 4 ? options_for(x.size(1), x.size(2)) : options_;
}

Conv2dOptions Conv2d::options_for(const FuseLevelsOptions& levels) const {
  return options_for(levels.out_h + 2 * levels.pad_h, levels.out_w + 2 * levels.pad_w);
}

Tensor Conv2d::forward(const Tensor& x) {
  if (is_training()) cache_.clear();
  return naming_layer(*this, [&] { return conv2d(x, in_type_of(x, weight_), in_type_of(x, bias_), options_for(x)); });
}

Tensor Conv2d::forward_fused(const std::vector<Tensor>& branches, const FuseLevelsOptions& levels) const {
  return naming_layer(*this, [&] {
    return fused_conv2d(branches, in_type_of(branches[0], weight_), in_type_of(branches[0], bias_), levels, options_for(levels));
  });
}

Tensor Conv2d::forward_norm(const Tensor& x, const InferenceNorm& norm, const Tensor& residual) {
  return naming_layer(*this, [&] {
    return conv2d_batch_norm(x, in_type_of(x, weight_), in_type_of(x, bias_), options_for(x), norm, residual, &cache_);
  });
}

Tensor Conv2d::forward_fused_norm(const std::vector<Tensor>& branches, const FuseLevelsOptions& levels, const InferenceNorm& norm) const {
  return naming_layer(*this, [&] {
    return fused_conv2d_batch_norm(branches, in_type_of(branches[0], weight_), in_type_of(branches[0], bias_), levels,
                                   options_for(levels), norm);
  });
}

void Conv2d::set_padding(int64_t rows, int64_t columns) {
  options_.pad_top = options_.pad_bottom = rows;
  options_.pad_left = options_.pad_right = columns;
}

int64_t Conv2d::macs(const Tensor&, const Tensor& output) const {
  return output.numel() * weight_.shape().product(1, 4);
}

std::string Conv2d::description() const {
  std::string text = "Conv2d " + number(weight_.size(3) * options_.groups) + "->" + number(weight_.size(0)) + " " +
                     number(weight_.size(1)) + "x" + number(weight_.size(2));
  if (options_.stride_h != 1) text += " stride " + number(options_.stride_h);
  if (options_.dilation_h != 1) text += " dilation " + number(options_.dilation_h);
  if (options_.groups != 1) text += " groups " + number(options_.groups);
  return text;
}

Linear::Linear(int64_t in_features, int64_t out_features, bool bias) {
  const double bound = 1 / std::sqrt(double(std::max<int64_t>(1, in_features)));
  Tensor weight = Tensor::empty({out_features, in_features}, init::dtype());
  init::uniform_(weight, -bound, bound);
  weight_ = register_parameter("weight", weight);
  if (bias) {
    Tensor values = Tensor::empty({out_features}, init::dtype());
    init::uniform_(values, -bound, bound);
    bias_ = register_parameter("bias", values);
  }
}

Tensor Linear::forward(const Tensor& x) {
  if (is_training()) cache_.clear();
  return naming_layer(*this, [&] {
    return linear(x, in_type_of(x, weight_), in_type_of(x, bias_), is_training() ? nullptr : &cache_);
  });
}

int64_t Linear::macs(const Tensor&, const Tensor& output) const { return output.numel() * weight_.size(1); }

std::string Linear::description() const { return "Linear " + number(weight_.size(1)) + "->" + number(weight_.size(0)); }

Activation::Activation(Tensor (*function)(const Tensor&), std::string name) : function_(function), name_(std::move(name)) {
  if (function == nullptr) throw UsageError("there is no function", "Activation(" + name_ + ")", "give one, for example relu");
}

BatchNorm2d::BatchNorm2d(int64_t num_features, const BatchNorm2dOptions& options)
    : options_(options),
      gamma_(register_parameter("weight", Tensor::full({num_features}, 1, init::dtype()))),
      beta_(register_parameter("bias", Tensor::zeros({num_features}, init::dtype()))),
      running_mean_(register_buffer("running_mean", Tensor::zeros({num_features}, init::dtype()))),
      running_var_(register_buffer("running_var", Tensor::full({num_features}, 1, init::dtype()))),
      num_batches_tracked_(register_buffer("num_batches_tracked", Tensor::zeros({}, DType::kInt64))) {
  const double momentum = options.momentum.value_or(1);
  if (!(options.eps >= 0 && momentum >= 0 && momentum <= 1)) {
    throw UsageError(
        "eps must be 0 or more, momentum 0 to 1",
        "BatchNorm2d(" + number(num_features) + ", eps " + std::to_string(options.eps) + ", momentum " + std::to_string(momentum) + ")",
        "1e-5 and 0.1 are usual: momentum is the new batch's weight");
  }
}

Tensor BatchNorm2d::forward(const Tensor& x) {
  BatchNormOptions options;
  options.eps = options_.eps;
  options.momentum = options_.momentum ? *options_.momentum : 1 / double(batches_tracked() + 1);
  options.training = is_training();
  options.relu = options_.relu;
  options.layer = path().c_str();
  const Tensor y = batch_norm(x, gamma_, beta_, running_mean_, running_var_, options);
  if (is_training()) {  // a batch that was refused is none
    ++*num_batches_tracked_.data<int64_t>();
    num_batches_tracked_.bump_version();
  }
  return y;
}

void BatchNorm2d::set_running_stats(const Tensor& mean, const Tensor& var, int64_t batches_tracked) {
  running_mean_.copy_(mean);
  running_var_.copy_(var);
  num_batches_tracked_.fill_(double(batches_tracked));
}

void BatchNorm2d::reset_running_stats() {
  running_mean_.fill_(0);
  running_var_.fill_(1);
  num_batches_tracked_.fill_(0);
}

InferenceNorm BatchNorm2d::inference() const {
  return {gamma_, beta_, running_mean_, running_var_, options_.eps, options_.relu};
}

std::string BatchNorm2d::description() const {
  return "BatchNorm2d " + number(gamma_.numel()) + (options_.relu ? " + ReLU" : "");
}

LayerNorm::LayerNorm(int64_t num_features, double eps)
    : eps_(eps),
      gamma_(register_parameter("weight", Tensor::full({num_features}, 1, init::dtype()))),
      beta_(register_parameter("bias", Tensor::zeros({num_features}, init::dtype()))) {}

std::string LayerNorm::description() const { return "LayerNorm " + number(gamma_.numel()); }

GroupNorm::GroupNorm(int64_t groups, int64_t num_channels, double eps)
    : groups_(groups),
      eps_(eps),
      gamma_(register_parameter("weight", Tensor::full({num_channels}, 1, init::dtype()))),
      beta_(register_parameter("bias", Tensor::zeros({num_channels}, init::dtype()))) {}

std::string GroupNorm::description() const { return "GroupNorm " + number(groups_) + " x " + number(gamma_.numel() / groups_); }

Tensor Upsample::forward(const Tensor& x) {
  return resize_bilinear(x, int64_t(std::floor(double(x.size(1)) * scale_)), int64_t(std::floor(double(x.size(2)) * scale_)),
                         align_corners_);
}

Dropout::Dropout(double p, Kind kind) : p_(p), kind_(kind) {
  const Random own = init::own_stream();
  seed_ = own.seed();
  stream_ = own.stream();
}

Tensor Dropout::forward(const Tensor& x) {
  if (!is_training() || p_ == 0) return x;
  const uint64_t stream = draws_streams_ ? stream_++ : stream_;
  if (kind_ == Kind::kChannel) return channel_dropout(x, p_, seed_, stream);
  if (kind_ == Kind::kElement) return dropout(x, p_, seed_, stream);
  std::vector<int64_t> samples(size_t(x.rank()), 1);
  samples[0] = x.size(0);
  return mul(x, dropout(Tensor::full(Shape(samples), 1, x.dtype(), x.device()), p_, seed_, stream));
}

std::string Dropout::description() const {
  if (p_ == 0) return "";
  const char* kinds[] = {"dropout ", "channel dropout ", "drop path "};
  return kinds[int(kind_)] + std::to_string(p_).substr(0, 4);
}

namespace {

bool one_operator(const BatchNorm2d& norm) { return !norm.is_training() && !LayerObserver::any(); }

}  // namespace

Tensor conv_norm(Conv2d& conv, BatchNorm2d& norm, const Tensor& x) {
  return one_operator(norm) ? conv.forward_norm(x, norm.inference(), {}) : norm(conv(x));
}

Tensor conv_norm_add_relu(Conv2d& conv, BatchNorm2d& norm, const Tensor& x, const std::function<Tensor()>& shortcut) {
  if (!one_operator(norm)) {
    const Tensor normed = norm(conv(x));
    return relu(add(normed, shortcut()));
  }
  InferenceNorm inference = norm.inference();
  inference.relu = true;
  return conv.forward_norm(x, inference, shortcut());
}

Tensor forward_in_order(const std::vector<Layer*>& layers, const Tensor& x) {
  Tensor value = x;
  for (size_t i = 0; i < layers.size(); ++i) {
    auto* conv = dynamic_cast<Conv2d*>(layers[i]);
    auto* norm = conv && i + 1 < layers.size() ? dynamic_cast<BatchNorm2d*>(layers[i + 1]) : nullptr;
    value = norm ? conv_norm(*conv, *norm, value) : (*layers[i])(value);
    if (norm) ++i;
  }
  return value;
}

void Sequential::check_free(const std::string& name) const {
  if (!has_child(name)) return;
  throw UsageError(
      "there is a layer \"" + name + "\" already", path().empty() ? "Sequential" : path(),
      "append() names a layer by its place, " + number(int64_t(size())) + " for the next one: name this one with append_as(\"...\")");
}

ConvModule::ConvModule(int64_t in_channels, int64_t out_channels, int64_t kernel_size, int64_t dilation, int64_t groups)
    : conv_(register_module<Conv2d>("conv", in_channels, out_channels,
                                    Conv2dLayerOptions{.kernel_size = kernel_size,
                                                       .padding = dilation * (kernel_size / 2),
                                                       .dilation = dilation,
                                                       .groups = groups,
                                                       .bias = false})),
      bn_(register_module<BatchNorm2d>("bn", out_channels, BatchNorm2dOptions{.relu = true})) {}

DepthwiseSeparableConvModule::DepthwiseSeparableConvModule(int64_t in_channels, int64_t out_channels, int64_t kernel_size, int64_t dilation)
    : depthwise_(register_module<ConvModule>("depthwise_conv", in_channels, in_channels, kernel_size, dilation, in_channels)),
      pointwise_(register_module<ConvModule>("pointwise_conv", in_channels, out_channels, 1)) {}

}  // namespace eq
