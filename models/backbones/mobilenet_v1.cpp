#include "models/backbones/mobilenet_v1.h"

namespace eq {
namespace {

struct Block {
  int64_t channels, stride;
  bool ends_level;
};
constexpr Block kBlocks[] = {{64, 1, false},  {128, 2, false}, {128, 1, true},  {256, 2, false}, {256, 1, true},
                             {512, 2, false}, {512, 1, false}, {512, 1, false}, {512, 1, false}, {512, 1, false},
                             {512, 1, true},  {1024, 2, false}, {1024, 1, true}};

}  // namespace

MobileNetV1::MobileNetV1(const BackboneOptions& options) {
  const int64_t output_stride = options.output_stride;
  if (output_stride != 8 && output_stride != 16 && output_stride != 32) {
    throw UsageError("there is no output stride " + std::to_string(output_stride), "model.backbone.output_stride", "use 8, 16 or 32");
  }
  const auto channels = [&](int64_t standard) { return int64_t(double(standard) * options.multiplier); };
  if (channels(32) < 1) {
    throw UsageError("the multiplier leaves the first layer no channels", "model.backbone.multiplier", "use 1, 0.75, 0.5 or 0.25");
  }

  int64_t width = channels(32), stride = 2, dilation = 1;
  add_step("conv1", 3, width, {.kernel_size = 3, .stride = 2}, false);
  for (size_t i = 0; i < std::size(kBlocks); ++i) {
    const Block& block = kBlocks[i];
    const bool dilate = block.stride * stride > output_stride;
    const std::string number = std::to_string(i + 1);
    add_step("conv_dw_" + number, width, width,
             {.kernel_size = 3, .stride = dilate ? 1 : block.stride, .dilation = dilation, .groups = width}, false);
    add_step("conv_pw_" + number, width, channels(block.channels), {.kernel_size = 1}, block.ends_level);
    (dilate ? dilation : stride) *= block.stride;
    width = channels(block.channels);
    if (block.ends_level) level_channels_.push_back(width);
  }
}

void MobileNetV1::add_step(const std::string& name, int64_t in_channels, int64_t out_channels, const Conv2dLayerOptions& options,
                           bool ends_level) {
  Conv2dLayerOptions conv = options;
  conv.bias = false;
  conv.same = true;
  steps_.push_back({&register_module<Conv2d>(name, in_channels, out_channels, conv),
                    &register_module<BatchNorm2d>(name + "_bn", out_channels, BatchNorm2dOptions{.eps = 1e-3}), ends_level});
}

std::vector<Tensor> MobileNetV1::forward(const Tensor& images) {
  std::vector<Tensor> levels;
  Tensor x = images;
  for (const Step& step : steps_) {
    x = relu6(conv_norm(*step.conv, *step.norm, x));
    if (step.ends_level) levels.push_back(x);
  }
  return levels;
}

}  // namespace eq
