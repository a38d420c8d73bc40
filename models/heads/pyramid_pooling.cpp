#include "models/heads/pyramid_pooling.h"

namespace eq {

PyramidPooling::PyramidPooling(int64_t in_channels, int64_t channels, const std::vector<int64_t>& scales)
    : in_channels_(in_channels), channels_(channels), scales_(scales) {
  for (int64_t scale : scales) {
    Sequential& branch = append();
    branch.append<AdaptiveAvgPool2d>(scale);
    branch.append<ConvModule>(in_channels, channels, 1);
  }
}

std::vector<Tensor> PyramidPooling::forward(const Tensor& x) {
  std::vector<Tensor> features{x};
  for (size_t i = 0; i < size(); ++i) features.push_back((*this)[i](x));
  return features;
}

std::vector<FusionSite::Branch> PyramidPooling::branches(const std::string& name) const {
  std::vector<FusionSite::Branch> branches{{.name = name, .channels = in_channels_}};
  for (int64_t scale : scales_) branches.push_back({.name = "pool " + std::to_string(scale), .channels = channels_, .upsampled = true});
  return branches;
}

}  // namespace eq
