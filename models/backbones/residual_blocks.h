#pragma once
// The residual blocks of ResNet and HRNet under PyTorch's names: conv1, bn1, conv2, bn2 (, conv3, bn3) and, where the shape changes,
// downsample.0 and downsample.1.

#include "layers/layers.h"

namespace eq {

struct ResidualOptions {
  int64_t in_channels, channels;  // channels: of the 3x3; a bottleneck gives 4 times as many
  int64_t stride = 1, dilation = 1;
  bool zero_gamma = false;  // the last batch norm starts at zero, so that the block starts as the identity
};

class ResidualBlock : public Layer {
 public:
  Tensor forward(const Tensor& x) final;

 protected:
  virtual Tensor before_last(const Tensor& x) = 0;  // what the last convolution reads
  // Call at the end of the constructor: the shortcut's weights come last, as in files.
  void finish(const ResidualOptions& options, int64_t out_channels, Conv2d& last_conv, BatchNorm2d& last_norm);
  Conv2d& conv3x3(const char* name, int64_t in, int64_t out, int64_t stride, int64_t dilation);
  Conv2d& conv1x1(const char* name, int64_t in, int64_t out);
  BatchNorm2d& norm(const char* name, int64_t channels, bool relu);

 private:
  Conv2d* last_conv_ = nullptr;
  BatchNorm2d* last_norm_ = nullptr;
  Sequential* shortcut_ = nullptr;
};

class BasicBlock final : public ResidualBlock {
 public:
  static constexpr int64_t kExpansion = 1;
  explicit BasicBlock(const ResidualOptions& options);

 private:
  Tensor before_last(const Tensor& x) override { return conv_norm(conv1_, bn1_, x); }
  Conv2d& conv1_;
  BatchNorm2d& bn1_;
  Conv2d& conv2_;
  BatchNorm2d& bn2_;
};

class Bottleneck final : public ResidualBlock {
 public:
  static constexpr int64_t kExpansion = 4;
  explicit Bottleneck(const ResidualOptions& options);

 private:
  Tensor before_last(const Tensor& x) override { return conv_norm(conv2_, bn2_, conv_norm(conv1_, bn1_, x)); }
  Conv2d& conv1_;
  BatchNorm2d& bn1_;
  Conv2d& conv2_;
  BatchNorm2d& bn2_;
  Conv2d& conv3_;
  BatchNorm2d& bn3_;
};

// `count` blocks, the first one as given (with half of its dilation, as mmsegmentation has it), the others at stride 1. Returns the
// channels they give.
template <class Block>
int64_t append_blocks(Sequential& stage, int count, ResidualOptions first) {
  const int64_t out_channels = first.channels * Block::kExpansion;
  ResidualOptions other{out_channels, first.channels, 1, first.dilation, first.zero_gamma};
  if (first.dilation > 1) first.dilation /= 2;
  stage.append<Block>(first);
  for (int i = 1; i < count; ++i) stage.append<Block>(other);
  return out_channels;
}

}  // namespace eq
