#include "layers/level_site.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "autograd/node.h"
#include "core/nearest.h"

namespace eq {
namespace {

void check_options(const EqualizerOptions& options) {
  check_choice(options.mode, equalizer_modes(), "equalizer.mode");
  check_choice(options.inputs, {"all", "upsampled", "matched"}, "equalizer.inputs");
  check_choice(options.granularity, {"scalar", "channel"}, "equalizer.granularity");
  check_choice(options.constants, {"measured", "analytic"}, "equalizer.constants");
  check_choice(options.measure, {"together", "in_turn"}, "equalizer.measure");
  if (options.inputs == "matched" && options.mode != "off" && !has_constants(options)) {
    throw UsageError("the mode '" + options.mode + "' has no constants to match", "equalizer.inputs", "use all or upsampled");
  }
  if (options.mode == "weighted" && options.inputs != "all") {
    throw UsageError("the mode 'weighted' weighs all inputs against each other", "equalizer.inputs", "use all");
  }
  if (options.refresh > 0 && has_constants(options) && (!refreshes(options) || options.constants == "analytic")) {
    const bool analytic = options.constants == "analytic";
    throw UsageError(
        analytic ? "analytic constants follow from sizes alone and never change"
        : options.mode == "learnable"
            ? "the mode 'learnable' trains its constants instead of measuring them anew"
            : "the mode '" + options.mode + "' has no constants left after the first step that could be measured anew",
        std::string("equalizer.refresh with equalizer.") + (analytic ? "constants" : "mode"),
        analytic ? "use equalizer.constants measured, or equalizer.refresh 0" : "use explicit or folded_lr, or equalizer.refresh 0");
  }
}

void check_constants(const BranchConstants& constants, const LevelSite::Branch& branch, int64_t expected, const std::string& where) {
  const auto all = [](const std::vector<double>& values, auto fits) { return std::all_of(values.begin(), values.end(), fits); };
  if (int64_t(constants.mean.size()) != expected || int64_t(constants.std.size()) != expected) {
    throw ShapeError("branch '" + branch.name + "' takes " + std::to_string(expected) + " means and standard deviations, not " +
                         std::to_string(constants.mean.size()) + " and " + std::to_string(constants.std.size()),
                     where, "give one pair, or one per channel, as equalizer.granularity says");
  }
  if (!all(constants.mean, [](double v) { return std::isfinite(v); }) ||
      !all(constants.std, [](double v) { return std::isfinite(v) && v > 0; })) {
    throw NumericalError("branch '" + branch.name + "' cannot be equalized by these constants", where,
                         "means must be finite, standard deviations finite and positive");
  }
}

}  // namespace

LevelSite::LevelSite(std::vector<Branch> branches, const Upsampling& upsampling, const EqualizerOptions& options)
    : branches_(std::move(branches)), upsampling_(upsampling), options_(options) {
  upsampling_.check();
  check_options(options);
  int64_t next = 0;
  std::map<std::string, int> times;
  for (size_t i = 0; i < branches_.size(); ++i) {
    Branch& branch = branches_[i];
    if (const int time = ++times[branch.name]; time > 1) branch.name += " (" + std::to_string(time) + ")";
    branch.first_channel = next;
    next += branch.channels;
    if (!equalizes(branch)) continue;
    const std::string name = "equalizers." + std::to_string(i);
    if (options.mode == "explicit") branch.equalizer = &register_module<ScaleEqualizer>(name, branch.channels, options);
    if (options.mode == "learnable") branch.equalizer = &register_module<LearnableEqualizer>(name, branch.channels, options);
    if (options.mode == "batch_norm") branch.norm = &register_module<BatchNorm2d>(name, branch.channels);
    if (options.mode == "layer_norm") branch.norm = &register_module<LayerNorm>(name, branch.channels);
    if (options.mode == "l2_norm") branch.norm = &register_module<L2Norm>(name, branch.channels);
  }
  if (options.mode == "weighted") weights_ = register_parameter("weights", Tensor::full({int64_t(branches_.size())}, 1, init::dtype()));
  replacements_.resize(branches_.size());
}

std::string LevelSite::where() const { return path().empty() ? "a fusion site outside of a network" : path(); }

void LevelSite::replace(size_t branch, const Tensor& values) {
  if (branch >= branches_.size() || (values.defined() && values.shape() != Shape{branches_[branch].channels})) {
    throw ShapeError("branch " + std::to_string(branch) + " of " + std::to_string(branches_.size()) + " cannot be replaced by " +
                         (values.defined() ? describe(values) : "nothing"),
                     where(), "give one value for each of its channels");
  }
  replacements_[branch] = values;
}

int64_t LevelSite::total_channels() const { return branches_.empty() ? 0 : branches_.back().first_channel + branches_.back().channels; }

Tensor LevelSite::Visit::resized() const {
  NoGradGuard no_grad;
  std::vector<Tensor> inputs = features;
  if (upsampling().is_nearest()) {
    for (Tensor& input : inputs) input = upsampling().resize(input, out_h, out_w);
  }
  return fuse_levels(inputs, {.out_h = out_h, .out_w = out_w, .align_corners = upsampling().align_corners});
}

Tensor LevelSite::Visit::fused() const {
  NoGradGuard no_grad;
  return fuse ? fuse() : Tensor();
}

std::vector<Tensor> LevelSite::arrive(const std::vector<Tensor>& features) const {
  if (features.size() != branches_.size()) {
    throw ShapeError(
        "the fusion site has " + std::to_string(branches_.size()) + " branches, but got " + std::to_string(features.size()) + " features",
        where(), "pass one feature map per branch");
  }
  std::vector<Tensor> arriving = features;
  for (size_t i = 0; i < features.size(); ++i) {
    if (features[i].rank() != 4 || features[i].size(3) != branches_[i].channels) {
      throw ShapeError("branch '" + branches_[i].name + "' must be [N,h,w," + std::to_string(branches_[i].channels) + "], it is " +
                           describe(features[i]),
                       where(), "check the channels of the levels");
    }
    if (replacements_[i].defined()) {
      arriving[i] = expand(cast(replacements_[i].detach(), features[i].dtype()), features[i].shape());
    } else if (observer_) {
      arriving[i] = reshape(features[i], features[i].shape());
    }
  }
  return arriving;
}

std::vector<Tensor> LevelSite::equalize(std::vector<Tensor> arriving, int64_t out_h, int64_t out_w, bool constants) const {
  std::vector<Tensor> shares;
  if (weights_.defined()) {
    const Tensor positive = relu(weights_);
    shares = split(div(positive, sum(positive, {0}, true) + 1e-4), std::vector<int64_t>(arriving.size(), 1), 0);
  }
  for (size_t i = 0; i < arriving.size(); ++i) {
    const Branch& branch = branches_[i];
    Tensor& x = arriving[i];
    // What is affine with constants over the picture commutes with the resizing, and is cheaper before it.
    if (branch.equalizer && (constants || options_.mode != "explicit")) x = (*branch.equalizer)(x);
    if (!shares.empty()) x = mul(x, cast(shares[i], x.dtype()));
    // Bilinearly fuse_levels resizes on its way.
    if (branch.norm || upsampling_.is_nearest()) x = upsampling_.resize(x, out_h, out_w);
    if (branch.norm) x = (*branch.norm)(x);
  }
  return arriving;
}

void LevelSite::notify(const std::vector<Tensor>& features, int64_t out_h, int64_t out_w, const std::function<Tensor()>& fuse) const {
  if (observer_) observer_({*this, features, out_h, out_w, fuse});
}

void LevelSite::check_fit(const std::vector<BranchConstants>& constants) const {
  if (constants.size() != branches_.size()) {
    throw ShapeError(
        "the fusion site has " + std::to_string(branches_.size()) + " branches, but got constants for " + std::to_string(constants.size()),
        where(), "give one entry per branch");
  }
  for (size_t i = 0; i < branches_.size(); ++i) {
    if (equalizes(branches_[i])) {
      check_constants(constants[i], branches_[i], options_.granularity == "channel" ? branches_[i].channels : 1, where());
    }
  }
}

void LevelSite::set_constants(const std::vector<BranchConstants>& constants) {
  check_fit(constants);
  for (size_t i = 0; i < branches_.size(); ++i) {
    if (branches_[i].equalizer) branches_[i].equalizer->set(constants[i]);
  }
}

std::vector<BranchConstants> LevelSite::constants() const {
  std::vector<BranchConstants> constants;
  for (const Branch& branch : branches_) constants.push_back(branch.equalizer ? branch.equalizer->get() : BranchConstants());
  return constants;
}

void LevelSite::reset() {
  for (Branch& branch : branches_) {
    if (!branch.equalizer) continue;
    const size_t count = branch.equalizer->get().mean.size();
    branch.equalizer->set({std::vector<double>(count, 0), std::vector<double>(count, 1)});
  }
}

}  // namespace eq
