#include "models/backbones/resnet.h"

#include <array>

#include "autograd/node.h"

namespace eq {
namespace {

struct BlockOptions {
  int64_t in_channels, channels;  // channels: of the 3x3; a bottleneck gives 4 times as many
  int64_t stride, dilation;
};

// A block's residual branch ends in a batch norm whose gamma starts at zero, so that the block starts as the identity.
void zero_gamma(BatchNorm2d& norm) {
  NoGradGuard no_grad;
  norm.gamma().fill_(0);
}

class Block : public Layer {
 public:
  Tensor forward(const Tensor& x) final {
    const Tensor residual = transform(x);
    return relu(add(residual, shortcut_ ? (*shortcut_)(x) : x));
  }

 protected:
  void add_shortcut(const BlockOptions& options, int64_t out_channels) {
    if (options.stride == 1 && options.in_channels == out_channels) return;
    shortcut_ = &register_module<Sequential>("downsample");
    shortcut_->append<Conv2d>(options.in_channels, out_channels,
                              Conv2dLayerOptions{.kernel_size = 1, .stride = options.stride, .bias = false});
    shortcut_->append<BatchNorm2d>(out_channels);
  }
  Conv2d& conv3x3(const char* name, int64_t in, int64_t out, int64_t stride, int64_t dilation) {
    return register_module<Conv2d>(
        name, in, out,
        Conv2dLayerOptions{.kernel_size = 3, .stride = stride, .padding = dilation, .dilation = dilation, .bias = false});
  }
  Conv2d& conv1x1(const char* name, int64_t in, int64_t out) {
    return register_module<Conv2d>(name, in, out, Conv2dLayerOptions{.kernel_size = 1, .bias = false});
  }
  BatchNorm2d& norm(const char* name, int64_t channels, bool relu) {
    return register_module<BatchNorm2d>(name, channels, BatchNorm2dOptions{.relu = relu});
  }
  virtual Tensor transform(const Tensor& x) = 0;

 private:
  Sequential* shortcut_ = nullptr;
};

class BasicBlock final : public Block {
 public:
  static constexpr int64_t kExpansion = 1;
  explicit BasicBlock(const BlockOptions& o)
      : conv1_(conv3x3("conv1", o.in_channels, o.channels, o.stride, o.dilation)),
        bn1_(norm("bn1", o.channels, true)),
        conv2_(conv3x3("conv2", o.channels, o.channels, 1, 1)),  // mmsegmentation dilates the first one only
        bn2_(norm("bn2", o.channels, false)) {
    zero_gamma(bn2_);
    add_shortcut(o, o.channels);
  }
  Tensor transform(const Tensor& x) override { return bn2_(conv2_(bn1_(conv1_(x)))); }

 private:
  Conv2d& conv1_;
  BatchNorm2d& bn1_;
  Conv2d& conv2_;
  BatchNorm2d& bn2_;
};

class Bottleneck final : public Block {
 public:
  static constexpr int64_t kExpansion = 4;
  explicit Bottleneck(const BlockOptions& o)
      : conv1_(conv1x1("conv1", o.in_channels, o.channels)),
        bn1_(norm("bn1", o.channels, true)),
        conv2_(conv3x3("conv2", o.channels, o.channels, o.stride, o.dilation)),
        bn2_(norm("bn2", o.channels, true)),
        conv3_(conv1x1("conv3", o.channels, o.channels * kExpansion)),
        bn3_(norm("bn3", o.channels * kExpansion, false)) {
    zero_gamma(bn3_);
    add_shortcut(o, o.channels * kExpansion);
  }
  Tensor transform(const Tensor& x) override { return bn3_(conv3_(bn2_(conv2_(bn1_(conv1_(x)))))); }

 private:
  Conv2d& conv1_;
  BatchNorm2d& bn1_;
  Conv2d& conv2_;
  BatchNorm2d& bn2_;
  Conv2d& conv3_;
  BatchNorm2d& bn3_;
};

template <class B>
void fill_stage(Sequential& stage, int blocks, BlockOptions first) {
  const int64_t dilation = first.dilation;
  if (first.dilation > 1) first.dilation /= 2;
  stage.append<B>(first);
  for (int i = 1; i < blocks; ++i) stage.append<B>(BlockOptions{first.channels * B::kExpansion, first.channels, 1, dilation});
}

struct Depth {
  int depth;
  bool bottleneck;
  std::array<int, 4> blocks;
};
constexpr Depth kDepths[] = {
    {18, false, {2, 2, 2, 2}}, {34, false, {3, 4, 6, 3}}, {50, true, {3, 4, 6, 3}}, {101, true, {3, 4, 23, 3}}};

const Depth& depth_of(int depth) {
  for (const Depth& known : kDepths) {
    if (known.depth == depth) return known;
  }
  throw UsageError("there is no ResNet-" + std::to_string(depth), "model.backbone.depth", "use 18, 34, 50 or 101");
}

}  // namespace

ResNet::ResNet(const BackboneOptions& options) {
  const Depth& depth = depth_of(options.depth);
  const int64_t width = options.width;
  if (width < 2 || width % 2 != 0) throw UsageError("the width must be even and positive", "model.backbone.width", "64 is the standard network");
  std::array<int64_t, 4> strides{1, 2, 2, 2}, dilations{1, 1, 1, 1};
  if (options.output_stride == 16) {
    strides[3] = 1, dilations[3] = 2;
  } else if (options.output_stride == 8) {
    strides[2] = strides[3] = 1, dilations[2] = 2, dilations[3] = 4;
  } else if (options.output_stride != 32) {
    throw UsageError("there is no output stride " + std::to_string(options.output_stride), "model.backbone.output_stride", "use 8, 16 or 32");
  }

  if (options.stem == "v1") {
    stem_ = &register_module<Conv2d>("conv1", 3, width, Conv2dLayerOptions{.kernel_size = 7, .stride = 2, .padding = 3, .bias = false});
    stem_norm_ = &register_module<BatchNorm2d>("bn1", width, BatchNorm2dOptions{.relu = true});
  } else if (options.stem == "v1c") {
    // PyTorch's sequence counts the ReLUs too: convolutions 0, 3, 6 and norms 1, 4, 7. Ours are fused into the norms.
    auto& stem = register_module<Sequential>("stem");
    const std::array<int64_t, 4> channels{3, width / 2, width / 2, width};
    for (int i = 0; i < 3; ++i) {
      stem.append_as<Conv2d>(std::to_string(3 * i), channels[i], channels[i + 1],
                             Conv2dLayerOptions{.kernel_size = 3, .stride = i == 0 ? 2 : 1, .padding = 1, .bias = false});
      stem.append_as<BatchNorm2d>(std::to_string(3 * i + 1), channels[i + 1], BatchNorm2dOptions{.relu = true});
    }
    stem_ = &stem;
  } else {
    throw UsageError("there is no stem '" + options.stem + "'", "model.backbone.stem", "use v1 or v1c");
  }

  int64_t in_channels = width;
  for (int i = 0; i < 4; ++i) {
    auto& stage = register_module<Sequential>("layer" + std::to_string(i + 1));
    const BlockOptions first{in_channels, width << i, strides[i], dilations[i]};
    if (depth.bottleneck) {
      fill_stage<Bottleneck>(stage, depth.blocks[i], first);
    } else {
      fill_stage<BasicBlock>(stage, depth.blocks[i], first);
    }
    in_channels = first.channels * (depth.bottleneck ? Bottleneck::kExpansion : BasicBlock::kExpansion);
    level_channels_.push_back(in_channels);
    stages_.push_back(&stage);
  }
}

std::vector<Tensor> ResNet::forward(const Tensor& images) {
  Tensor x = (*stem_)(images);
  if (stem_norm_) x = (*stem_norm_)(x);
  x = pool_(x);
  std::vector<Tensor> levels;
  for (Layer* stage : stages_) levels.push_back(x = (*stage)(x));
  return levels;
}

}  // namespace eq
