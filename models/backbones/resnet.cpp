#include "models/backbones/resnet.h"

#include <array>

#include "models/backbones/residual_blocks.h"

namespace eq {
namespace {

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
  if (width < 2 || width % 2 != 0) {
    throw UsageError("the width must be even and positive", "model.backbone.width", "64 is the standard network");
  }
  std::array<int64_t, 4> strides{1, 2, 2, 2}, dilations{1, 1, 1, 1};
  if (options.output_stride == 16) {
    strides[3] = 1, dilations[3] = 2;
  } else if (options.output_stride == 8) {
    strides[2] = strides[3] = 1, dilations[2] = 2, dilations[3] = 4;
  } else if (options.output_stride != 32) {
    throw UsageError("there is no output stride " + std::to_string(options.output_stride), "model.backbone.output_stride",
                     "use 8, 16 or 32");
  }

  if (options.stem == "v1") {
    stem_.push_back(
        &register_module<Conv2d>("conv1", 3, width, Conv2dLayerOptions{.kernel_size = 7, .stride = 2, .padding = 3, .bias = false}));
    stem_.push_back(&register_module<BatchNorm2d>("bn1", width, BatchNorm2dOptions{.relu = true}));
  } else if (options.stem == "v1c") {
    // PyTorch's sequence counts the ReLUs too: convolutions 0, 3, 6 and norms 1, 4, 7. Ours are fused into the norms.
    auto& stem = register_module<Sequential>("stem");
    const std::array<int64_t, 4> channels{3, width / 2, width / 2, width};
    for (int i = 0; i < 3; ++i) {
      stem.append_as<Conv2d>(std::to_string(3 * i), channels[i], channels[i + 1],
                             Conv2dLayerOptions{.kernel_size = 3, .stride = i == 0 ? 2 : 1, .padding = 1, .bias = false});
      stem.append_as<BatchNorm2d>(std::to_string(3 * i + 1), channels[i + 1], BatchNorm2dOptions{.relu = true});
    }
    stem_.push_back(&stem);
  } else {
    throw UsageError("there is no stem '" + options.stem + "'", "model.backbone.stem", "use v1 or v1c");
  }

  int64_t in_channels = width;
  for (int i = 0; i < 4; ++i) {
    auto& stage = register_module<Sequential>("layer" + std::to_string(i + 1));
    const ResidualOptions first{in_channels, width << i, strides[i], dilations[i], true};
    in_channels = depth.bottleneck ? append_blocks<Bottleneck>(stage, depth.blocks[i], first)
                                   : append_blocks<BasicBlock>(stage, depth.blocks[i], first);
    level_channels_.push_back(in_channels);
    stages_.push_back(&stage);
  }
}

std::vector<Tensor> ResNet::forward(const Tensor& images) {
  Tensor x = pool_(forward_in_order(stem_, images));
  std::vector<Tensor> levels;
  for (Layer* stage : stages_) levels.push_back(x = (*stage)(x));
  return levels;
}

}  // namespace eq
