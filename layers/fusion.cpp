#include "layers/fusion.h"

#include <algorithm>
#include <cmath>

#include "autograd/node.h"
#include "core/nearest.h"

namespace eq {
namespace {

std::string where_of(const LevelSite& site) { return site.path().empty() ? "a fusion site outside of a network" : site.path(); }

// Whether the fusion weight takes constants over: then what lies around the picture is not zero.
bool pads_itself(const EqualizerOptions& options) { return folds(options) || refreshes(options); }

void check_options(const EqualizerOptions& options, const FusionLayer& fusion) {
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
  if (!pads_itself(options)) return;
  const Conv2dOptions& conv = fusion.conv->options();
  const char *key = folds(options) ? "equalizer.mode" : "equalizer.refresh", *instead = folds(options) ? "use explicit" : "use 0";
  if (conv.pad_top != conv.pad_bottom || conv.pad_left != conv.pad_right) {
    throw UsageError("a fusion convolution with uneven padding cannot take constants over", key, instead);
  }
  if (fusion.conv->pads_to_same()) {
    throw UsageError("a fusion convolution whose padding follows its input (same) cannot take constants over", key,
                     std::string("give it a padding, or ") + instead);
  }
  if (fusion.norm == nullptr && !fusion.conv->bias().defined()) {
    throw UsageError("the fusion convolution has neither a bias nor a norm behind it to take the means", key, instead);
  }
}

// Changes the values of `y`, wherever they are, on the host: edit(T* values).
template <class Edit>
void edit_on_host(Tensor y, const Edit& edit) {
  NoGradGuard no_grad;
  const Tensor here = y.to(Device::cpu());
  dispatch_floating(here.dtype(), "fold", [&]<typename T>() { edit(here.data<T>()); });
  if (y.device().is_cpu()) {
    y.bump_version();
  } else {
    y.copy_(here);
  }
}

// y += values, in the type of y.
void add_to(const Tensor& y, const std::vector<double>& values) {
  edit_on_host(y, [&]<typename T>(T* out) {
    for (size_t i = 0; i < values.size(); ++i) out[i] = T(double(out[i]) + values[i]);
  });
}

void overwrite(const Tensor& y, const std::vector<double>& values) {
  edit_on_host(y, [&]<typename T>(T* out) { std::transform(values.begin(), values.end(), out, [](double value) { return T(value); }); });
}

std::vector<double> values_of(const Tensor& x) { return x.to(DType::kFloat64).to_vector<double>(); }

// A branch's constants, one per channel; the identity where there are none.
std::vector<double> per_channel(const std::vector<double>& values, int64_t channels, double absent) {
  if (int64_t(values.size()) == channels) return values;
  return std::vector<double>(size_t(channels), values.empty() ? absent : values[0]);
}

void check_constants(const BranchConstants& constants, const LevelSite::Branch& branch, int64_t expected, const std::string& where) {
  const auto all = [](const std::vector<double>& values, auto fits) { return std::all_of(values.begin(), values.end(), fits); };
  if (int64_t(constants.mean.size()) != expected || int64_t(constants.std.size()) != expected) {
    throw ShapeError("branch '" + branch.name + "' takes " + std::to_string(expected) + " means and standard deviations, not " +
                         std::to_string(constants.mean.size()) + " and " + std::to_string(constants.std.size()), where,
                     "give one pair, or one per channel, as equalizer.granularity says");
  }
  if (!all(constants.mean, [](double v) { return std::isfinite(v); }) ||
      !all(constants.std, [](double v) { return std::isfinite(v) && v > 0; })) {
    throw NumericalError("branch '" + branch.name + "' cannot be equalized by these constants", where,
                         "means must be finite, standard deviations finite and positive");
  }
}

}  // namespace

// --- what all sites share ---

LevelSite::LevelSite(std::vector<Branch> branches, const Upsampling& upsampling) : branches_(std::move(branches)), upsampling_(upsampling) {
  upsampling_.check();
  int64_t next = 0;
  for (Branch& branch : branches_) {
    branch.first_channel = next;
    next += branch.channels;
  }
  replacements_.resize(branches_.size());
}

void LevelSite::replace(size_t branch, const Tensor& values) {
  if (branch >= branches_.size() || (values.defined() && values.shape() != Shape{branches_[branch].channels})) {
    throw ShapeError("branch " + std::to_string(branch) + " of " + std::to_string(branches_.size()) + " cannot be replaced by " +
                         (values.defined() ? describe(values) : "nothing"), where_of(*this), "give one value for each of its channels");
  }
  replacements_[branch] = values;
}

int64_t LevelSite::total_channels() const {
  return branches_.empty() ? 0 : branches_.back().first_channel + branches_.back().channels;
}

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
    throw ShapeError("the fusion site has " + std::to_string(branches_.size()) + " branches, but got " +
                         std::to_string(features.size()) + " features", where_of(*this), "pass one feature map per branch");
  }
  std::vector<Tensor> arriving = features;
  for (size_t i = 0; i < features.size(); ++i) {
    if (features[i].rank() != 4 || features[i].size(3) != branches_[i].channels) {
      throw ShapeError("branch '" + branches_[i].name + "' must be [N,h,w," + std::to_string(branches_[i].channels) + "], it is " +
                           describe(features[i]), where_of(*this), "check the channels of the levels");
    }
    if (replacements_[i].defined()) {
      arriving[i] = expand(cast(replacements_[i].detach(), features[i].dtype()), features[i].shape());
    } else if (observer_) {
      arriving[i] = reshape(features[i], features[i].shape());
    }
  }
  return arriving;
}

void LevelSite::notify(const std::vector<Tensor>& features, int64_t out_h, int64_t out_w, const std::function<Tensor()>& fuse) const {
  if (observer_) observer_({*this, features, out_h, out_w, fuse});
}

// --- the concatenating site ---

FusionSite::FusionSite(std::vector<Branch> branches, const Upsampling& upsampling, const EqualizerOptions& options, FusionLayer fusion)
    : LevelSite(std::move(branches), upsampling), options_(options), fusion_(fusion) {
  check_options(options, fusion);
  const int64_t reads = fusion_.conv->weight().size(3) * fusion_.conv->options().groups;
  if (reads != total_channels()) {
    throw ShapeError("the branches have " + std::to_string(total_channels()) + " channels together, the fusion convolution reads " +
                         std::to_string(reads),
                     "FusionSite", "make the convolution for the concatenation of all branches");
  }
  for (size_t i = 0; i < branches_.size(); ++i) {
    Branch& branch = branches_[i];
    if (!equalizes(branch)) continue;
    const std::string name = "equalizers." + std::to_string(i);
    if (options.mode == "explicit") branch.equalizer = &register_module<ScaleEqualizer>(name, branch.channels, options);
    if (options.mode == "learnable") branch.equalizer = &register_module<LearnableEqualizer>(name, branch.channels, options);
    if (options.mode == "batch_norm") branch.norm = &register_module<BatchNorm2d>(name, branch.channels);
    if (options.mode == "layer_norm") branch.norm = &register_module<LayerNorm>(name, branch.channels);
    if (options.mode == "l2_norm") branch.norm = &register_module<L2Norm>(name, branch.channels);
  }
  if (options.mode == "weighted") weights_ = register_parameter("weights", Tensor::full({int64_t(branches_.size())}, 1, init::dtype()));
  if (pads_itself(options)) pad_by_itself();
  if (options.mode == "folded_lr") unit_ = register_buffer("unit", Tensor::full({total_channels()}, 1, init::dtype()));
}

Tensor FusionSite::forward(const std::vector<Tensor>& features, int64_t out_h, int64_t out_w) {
  const std::vector<Tensor> arriving = arrive(features);
  std::vector<Tensor> inputs = arriving;
  FuseLevelsOptions fuse{
      .out_h = out_h, .out_w = out_w, .align_corners = upsampling_.align_corners, .pad_h = pad_h_, .pad_w = pad_w_, .border = border_};
  std::vector<Tensor> shares;
  if (weights_.defined()) {
    const Tensor positive = relu(weights_);
    shares = split(div(positive, sum(positive, {0}, true) + 1e-4), std::vector<int64_t>(inputs.size(), 1), 0);
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Branch& branch = branches_[i];
    const auto* constant = dynamic_cast<ScaleEqualizer*>(branch.equalizer);
    fuse.shift.push_back(constant ? constant->mean() : Tensor());
    fuse.scale.push_back(constant ? constant->inverse_std() : Tensor());
    // What is affine with constants over the picture commutes with the resizing, and is cheaper before it.
    if (branch.equalizer && !constant) inputs[i] = (*branch.equalizer)(inputs[i]);
    if (!shares.empty()) inputs[i] = mul(inputs[i], cast(shares[i], inputs[i].dtype()));
    // Bilinearly fuse_levels resizes on its way.
    if (branch.norm || upsampling_.is_nearest()) inputs[i] = upsampling_.resize(inputs[i], out_h, out_w);
    if (branch.norm) inputs[i] = (*branch.norm)(inputs[i]);
  }
  if (observed()) {
    const auto without_border = [&] {
      FuseLevelsOptions inside = fuse;
      inside.pad_h = inside.pad_w = 0;
      inside.border = {};
      return fuse_levels(inputs, inside);
    };
    notify(arriving, out_h, out_w, folds(options_) ? std::function<Tensor()>() : without_border);
  }
  if (!fusion_.whole || LayerObserver::any()) return (*fusion_.layer)(fuse_levels(inputs, fuse));
  if (fusion_.norm && !fusion_.norm->is_training()) return fusion_.conv->forward_fused_norm(inputs, fuse, fusion_.norm->inference());
  const Tensor y = fusion_.conv->forward_fused(inputs, fuse);
  return fusion_.norm ? (*fusion_.norm)(y) : y;
}

void FusionSite::set_constants(const std::vector<BranchConstants>& constants) {
  check_fit(constants);
  check_not_folded();
  if (folds(options_)) return fold_in(constants);
  set_equalizers(constants);
  if (border_.defined()) border_.fill_(0);
}

void FusionSite::set_equalizers(const std::vector<BranchConstants>& constants) {
  for (size_t i = 0; i < branches_.size(); ++i) {
    if (branches_[i].equalizer) branches_[i].equalizer->set(constants[i]);
  }
}

void FusionSite::check_fit(const std::vector<BranchConstants>& constants) const {
  if (constants.size() != branches_.size()) {
    throw ShapeError("the fusion site has " + std::to_string(branches_.size()) + " branches, but got constants for " +
                         std::to_string(constants.size()), where_of(*this), "give one entry per branch");
  }
  for (size_t i = 0; i < branches_.size(); ++i) {
    if (equalizes(branches_[i])) {
      check_constants(constants[i], branches_[i], options_.granularity == "channel" ? branches_[i].channels : 1, where_of(*this));
    }
  }
}

// One of each for every channel of the concatenation; 0 and 1 where nothing is equalized.
BranchConstants FusionSite::of_channels(const std::vector<BranchConstants>& constants) const {
  BranchConstants all;
  for (size_t i = 0; i < branches_.size(); ++i) {
    const BranchConstants own = equalizes(branches_[i]) ? constants[i] : BranchConstants();
    const auto means = per_channel(own.mean, branches_[i].channels, 0), stds = per_channel(own.std, branches_[i].channels, 1);
    all.mean.insert(all.mean.end(), means.begin(), means.end());
    all.std.insert(all.std.end(), stds.begin(), stds.end());
  }
  return all;
}

void FusionSite::fold_in(const std::vector<BranchConstants>& constants) {
  const BranchConstants all = of_channels(constants);
  if (unit_.defined()) overwrite(unit_, all.std);
  std::vector<double> scale;
  for (double std : all.std) scale.push_back(1 / std);
  if (options_.mode == "folded_normalised") {
    double log_sum = 0;
    for (const Branch& branch : branches_) {
      for (int64_t c = 0; c < branch.channels; ++c) {
        log_sum += std::log(all.std[size_t(branch.first_channel + c)]) / double(branch.channels);
      }
    }
    for (double& value : scale) value *= std::exp(log_sum / double(branches_.size()));
  }
  absorbed_ = true;
  absorb(all.mean, scale);
}

std::vector<double> FusionSite::refresh(const std::vector<BranchConstants>& constants) {
  if (!refreshes(options_)) {
    throw UsageError("this site's constants do not change during training", where_of(*this), "build it with equalizer.refresh");
  }
  check_fit(constants);
  std::vector<double> mean, growth;
  if (unit_.defined()) {
    const std::vector<double> before = values_of(unit_);
    overwrite(unit_, of_channels(constants).std);
    const std::vector<double> after = values_of(unit_);
    for (size_t c = 0; c < after.size(); ++c) growth.push_back(after[c] / before[c]);
    return growth;
  }
  const BranchConstants before = of_channels(this->constants());
  set_equalizers(constants);
  const BranchConstants after = of_channels(this->constants());  // as they are stored: rounded
  for (size_t c = 0; c < after.std.size(); ++c) {
    growth.push_back(after.std[c] / before.std[c]);
    mean.push_back((before.mean[c] - after.mean[c]) / after.std[c]);
  }
  absorb(mean, growth);
  return growth;
}

std::vector<BranchConstants> FusionSite::constants() const {
  std::vector<BranchConstants> constants;
  const std::vector<double> units = unit_.defined() ? values_of(unit_) : std::vector<double>();
  for (const Branch& branch : branches_) {
    constants.push_back(branch.equalizer ? branch.equalizer->get() : BranchConstants());
    if (!unit_.defined() || !equalizes(branch)) continue;
    const auto first = units.begin() + branch.first_channel;
    constants.back().std.assign(first, first + (options_.granularity == "channel" ? branch.channels : 1));
    constants.back().mean.assign(constants.back().std.size(), 0);
  }
  return constants;
}

void FusionSite::reset() {
  check_not_folded();
  for (Branch& branch : branches_) {
    if (!branch.equalizer) continue;
    const size_t count = branch.equalizer->get().mean.size();
    branch.equalizer->set({std::vector<double>(count, 0), std::vector<double>(count, 1)});
  }
  if (border_.defined()) border_.fill_(0);
}

void FusionSite::fold() {
  EqualizerOptions folded = options_;
  folded.mode = "folded";
  folded.refresh = 0;
  if (options_.mode != "explicit" && options_.mode != "learnable") {
    throw UsageError("equalizers of the mode '" + options_.mode + "' cannot be folded", where_of(*this),
                     "fold a network trained with explicit or learnable ones");
  }
  check_options(folded, fusion_);
  const std::vector<BranchConstants> measured = constants();
  check_fit(measured);
  for (size_t i = 0; i < branches_.size(); ++i) {
    if (branches_[i].equalizer) remove_child("equalizers." + std::to_string(i));
    branches_[i].equalizer = nullptr;
  }
  options_ = folded;
  if (!border_.defined()) pad_by_itself();
  fold_in(measured);
}

// The site writes the border that the convolution would have padded with zeros.
void FusionSite::pad_by_itself() {
  pad_h_ = fusion_.conv->options().pad_top;
  pad_w_ = fusion_.conv->options().pad_left;
  fusion_.conv->set_padding(0, 0);
  border_ = register_buffer("border", Tensor::zeros({total_channels()}, fusion_.conv->weight().dtype(), fusion_.conv->weight().device()));
}

// A second fold would divide the weight again, and nothing says by what the first did.
void FusionSite::check_not_folded() const {
  if (!folds(options_)) return;
  const std::vector<double> border = values_of(border_);
  if (!absorbed_ && std::all_of(border.begin(), border.end(), [](double v) { return v == 0; })) return;
  throw UsageError("the site has folded its constants into the fusion weight already", where_of(*this),
                   "build the network anew and measure that");
}

// What was e shall be scale (e' - mean) in terms of what the site gives from now on, e': W e = (W scale) e' - sum (W scale) mean, with the
// sum over all taps because the border is translated, too.
void FusionSite::absorb(const std::vector<double>& mean, const std::vector<double>& scale) {
  NoGradGuard no_grad;
  const Tensor& weight = fusion_.conv->weight();
  const int64_t out = weight.size(0), taps = weight.size(1) * weight.size(2), in = weight.size(3);
  const int64_t per_group = out / fusion_.conv->options().groups;
  std::vector<double> shift(size_t(out), 0.0);
  edit_on_host(weight, [&]<typename T>(T* value) {
    for (int64_t o = 0; o < out; ++o) {
      for (int64_t t = 0; t < taps; ++t) {
        for (int64_t i = 0; i < in; ++i, ++value) {
          const size_t channel = size_t(o / per_group * in + i);
          *value = T(double(*value) * scale[channel]);
          shift[size_t(o)] += double(*value) * mean[channel];
        }
      }
    }
  });
  edit_on_host(border_, [&]<typename T>(T* value) {
    for (size_t c = 0; c < mean.size(); ++c) value[c] = T(double(value[c]) / scale[c] + mean[c]);
  });
  if (fusion_.conv->bias().defined()) {
    for (double& value : shift) value = -value;
    add_to(fusion_.conv->bias(), shift);
  } else {
    add_to(fusion_.norm->running_mean(), shift);
  }
}

// --- the summing site ---

AdditiveSite::AdditiveSite(std::vector<Branch> branches, const Upsampling& upsampling) : LevelSite(std::move(branches), upsampling) {}

Tensor AdditiveSite::forward(const Tensor& fine, const Tensor& coarse) {
  const std::vector<Tensor> arriving = arrive({fine, coarse});
  const Tensor sum = add(arriving[0], upsampling_.resize(arriving[1], fine.size(1), fine.size(2)));
  notify(arriving, fine.size(1), fine.size(2), [&sum] { return sum; });
  return sum;
}

}  // namespace eq
