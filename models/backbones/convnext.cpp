#include "models/backbones/convnext.h"

#include "models/backbones/stages.h"

namespace eq {
namespace {

constexpr StageVariant kConvNextVariants[] = {{"tiny", 96, {3, 3, 9, 3}}, {"small", 96, {3, 3, 27, 3}}, {"base", 128, {3, 3, 27, 3}}};
constexpr double kEps = 1e-6;

}  // namespace

ConvNeXtBlock::ConvNeXtBlock(int64_t channels, double drop_path)
    : depthwise_conv_(small_weights(register_module<Conv2d>(
          "depthwise_conv", channels, channels, Conv2dLayerOptions{.kernel_size = 7, .padding = 3, .groups = channels}))),
      norm_(register_module<LayerNorm>("norm", channels, kEps)),
      pointwise_conv1_(small_weights(register_module<Linear>("pointwise_conv1", channels, 4 * channels))),
      pointwise_conv2_(small_weights(register_module<Linear>("pointwise_conv2", 4 * channels, channels))),
      path_(register_module<Dropout>("drop_path", drop_path, Dropout::Kind::kSample)),
      gamma_(register_parameter("gamma", Tensor::full({channels}, 1, init::dtype()))) {}

Tensor ConvNeXtBlock::forward(const Tensor& x) {
  const Tensor wide = gelu(pointwise_conv1_(norm_(depthwise_conv_(x))));
  return add(x, path_(mul(pointwise_conv2_(wide), in_type_of(x, gamma_))));
}

ConvNeXt::ConvNeXt(const BackboneOptions& options) {
  const StagePlan plan = plan_stages(kConvNextVariants, options);
  level_channels_ = plan.channels;
  auto& downsample = register_module<ModuleList<Sequential>>("downsample_layers");
  auto& stages = register_module<ModuleList<Sequential>>("stages");
  for (int i = 0; i < 4; ++i) {
    Sequential& before = downsample.append();
    const int64_t channels = plan.channels[i], size = i == 0 ? 4 : 2;
    if (i > 0) before.append<LayerNorm>(channels / 2, kEps);
    small_weights(before.append<Conv2d>(i == 0 ? 3 : channels / 2, channels, Conv2dLayerOptions{.kernel_size = size, .stride = size}));
    if (i == 0) before.append<LayerNorm>(channels, kEps);
    Sequential& stage = stages.append();
    for (const double drop_path : plan.drop_path[i]) stage.append<ConvNeXtBlock>(channels, drop_path);
    downsample_layers_.push_back(&before);
    stages_.push_back(&stage);
  }
  for (int i = 0; i < 4; ++i) norms_.push_back(&register_module<LayerNorm>("norm" + std::to_string(i), plan.channels[i], kEps));
}

std::vector<std::string> ConvNeXt::order_of_use() const {
  std::vector<std::string> order;
  for (const char* i : {"0.", "1.", "2.", "3."}) {
    order.insert(order.end(), {std::string("downsample_layers.") + i, std::string("stages.") + i});
  }
  return order;
}

std::vector<Tensor> ConvNeXt::forward(const Tensor& images) {
  Tensor x = images;
  std::vector<Tensor> levels;
  for (size_t i = 0; i < stages_.size(); ++i) {
    x = (*stages_[i])((*downsample_layers_[i])(x));
    levels.push_back((*norms_[i])(x));
  }
  return levels;
}

}  // namespace eq
