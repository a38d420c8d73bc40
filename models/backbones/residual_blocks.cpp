#include "models/backbones/residual_blocks.h"

#include "autograd/node.h"

namespace eq {

Tensor ResidualBlock::forward(const Tensor& x) {
  const Tensor last = before_last(x);
  return conv_norm_add_relu(*last_conv_, *last_norm_, last, [&] { return shortcut_ ? (*shortcut_)(x) : x; });
}

void ResidualBlock::finish(const ResidualOptions& options, int64_t out_channels, Conv2d& last_conv, BatchNorm2d& last_norm) {
  last_conv_ = &last_conv;
  last_norm_ = &last_norm;
  if (options.zero_gamma) {
    NoGradGuard no_grad;
    last_norm.gamma().fill_(0);
  }
  if (options.stride == 1 && options.in_channels == out_channels) return;
  shortcut_ = &register_module<Sequential>("downsample");
  shortcut_->append<Conv2d>(options.in_channels, out_channels,
                            Conv2dLayerOptions{.kernel_size = 1, .stride = options.stride, .bias = false});
  shortcut_->append<BatchNorm2d>(out_channels);
}

Conv2d& ResidualBlock::conv3x3(const char* name, int64_t in, int64_t out, int64_t stride, int64_t dilation) {
  return register_module<Conv2d>(
      name, in, out,
      Conv2dLayerOptions{.kernel_size = 3, .stride = stride, .padding = dilation, .dilation = dilation, .bias = false});
}

Conv2d& ResidualBlock::conv1x1(const char* name, int64_t in, int64_t out) {
  return register_module<Conv2d>(name, in, out, Conv2dLayerOptions{.kernel_size = 1, .bias = false});
}

BatchNorm2d& ResidualBlock::norm(const char* name, int64_t channels, bool relu) {
  return register_module<BatchNorm2d>(name, channels, BatchNorm2dOptions{.relu = relu});
}

BasicBlock::BasicBlock(const ResidualOptions& o)
    : conv1_(conv3x3("conv1", o.in_channels, o.channels, o.stride, o.dilation)),
      bn1_(norm("bn1", o.channels, true)),
      conv2_(conv3x3("conv2", o.channels, o.channels, 1, 1)),  // mmsegmentation dilates the first one only
      bn2_(norm("bn2", o.channels, false)) {
  finish(o, o.channels, conv2_, bn2_);
}

Bottleneck::Bottleneck(const ResidualOptions& o)
    : conv1_(conv1x1("conv1", o.in_channels, o.channels)),
      bn1_(norm("bn1", o.channels, true)),
      conv2_(conv3x3("conv2", o.channels, o.channels, o.stride, o.dilation)),
      bn2_(norm("bn2", o.channels, true)),
      conv3_(conv1x1("conv3", o.channels, o.channels * kExpansion)),
      bn3_(norm("bn3", o.channels * kExpansion, false)) {
  finish(o, o.channels * kExpansion, conv3_, bn3_);
}

}  // namespace eq
