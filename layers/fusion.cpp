#include "layers/fusion.h"

#include "autograd/node.h"

namespace eq {

FusionSite::FusionSite(std::vector<Branch> branches, bool align_corners, const EqualizerOptions& options, Layer& fusion)
    : branches_(std::move(branches)), align_corners_(align_corners), fusion_(fusion) {
  if (options.mode != "off" && options.mode != "explicit") {
    throw UsageError("there is no equalizer mode '" + options.mode + "'", "equalizer.mode", "use off or explicit");
  }
  if (options.inputs != "all" && options.inputs != "upsampled") {
    throw UsageError("'" + options.inputs + "' does not say which inputs to equalize", "equalizer.inputs", "use all or upsampled");
  }
  int64_t next = 0;
  for (size_t i = 0; i < branches_.size(); ++i) {
    Branch& branch = branches_[i];
    branch.first_channel = next;
    next += branch.channels;
    if (options.mode == "explicit" && (options.inputs == "all" || branch.upsampled)) {
      branch.equalizer = &register_module<ScaleEqualizer>("equalizers." + std::to_string(i), branch.channels, options);
    }
  }
}

int64_t FusionSite::total_channels() const {
  return branches_.empty() ? 0 : branches_.back().first_channel + branches_.back().channels;
}

Tensor FusionSite::forward(const std::vector<Tensor>& features, int64_t out_h, int64_t out_w) {
  if (features.size() != branches_.size()) {
    throw ShapeError("the fusion site has " + std::to_string(branches_.size()) + " branches, but got " +
                         std::to_string(features.size()) + " features", path(), "pass one feature map per branch");
  }
  for (size_t i = 0; i < features.size(); ++i) {
    if (features[i].rank() != 4 || features[i].size(3) != branches_[i].channels) {
      throw ShapeError("branch '" + branches_[i].name + "' must be [N,h,w," + std::to_string(branches_[i].channels) + "], it is " +
                           describe(features[i]), path(), "check the channels of the levels");
    }
  }
  FuseLevelsOptions options{.out_h = out_h, .out_w = out_w, .align_corners = align_corners_};
  if (observer_) {
    NoGradGuard no_grad;
    observer_(*this, features, fuse_levels(features, options));
  }
  for (const Branch& branch : branches_) {
    options.shift.push_back(branch.equalizer ? branch.equalizer->mean() : Tensor());
    options.scale.push_back(branch.equalizer ? branch.equalizer->inverse_std() : Tensor());
  }
  return fusion_(fuse_levels(features, options));
}

}  // namespace eq
