#include "layers/fusion.h"

#include <algorithm>
#include <cmath>

#include "autograd/node.h"

namespace eq {
namespace {

// Whether the fusion weight takes constants over: then what lies around the picture is not zero.
bool pads_itself(const EqualizerOptions& options) { return folds(options) || refreshes(options); }

// Whether the convolution can take them over.
void check_takes_constants(const EqualizerOptions& options, const FusionLayer& fusion) {
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

}  // namespace

// --- the concatenating site ---

FusionSite::FusionSite(std::vector<Branch> branches, const Upsampling& upsampling, const EqualizerOptions& options, FusionLayer fusion)
    : LevelSite(std::move(branches), upsampling, options), fusion_(fusion) {
  check_takes_constants(options, fusion);
  const int64_t reads = fusion_.conv->weight().size(3) * fusion_.conv->options().groups;
  if (reads != total_channels()) {
    throw ShapeError("the branches have " + std::to_string(total_channels()) + " channels together, the fusion convolution reads " +
                         std::to_string(reads),
                     "FusionSite", "make the convolution for the concatenation of all branches");
  }
  if (pads_itself(options)) pad_by_itself();
  if (options.mode == "folded_lr") unit_ = register_buffer("unit", Tensor::full({total_channels()}, 1, init::dtype()));
}

Tensor FusionSite::forward(const std::vector<Tensor>& features, int64_t out_h, int64_t out_w) {
  const std::vector<Tensor> arriving = arrive(features);
  const std::vector<Tensor> inputs = equalize(arriving, out_h, out_w, false);
  FuseLevelsOptions fuse{
      .out_h = out_h, .out_w = out_w, .align_corners = upsampling_.align_corners, .pad_h = pad_h_, .pad_w = pad_w_, .border = border_};
  for (const Branch& branch : branches_) {
    const auto* constant = dynamic_cast<ScaleEqualizer*>(branch.equalizer);
    fuse.shift.push_back(constant ? constant->mean() : Tensor());
    fuse.scale.push_back(constant ? constant->inverse_std() : Tensor());
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
  if (folds(options_)) {
    check_fit(constants);
    check_not_folded();
    return fold_in(constants);
  }
  LevelSite::set_constants(constants);
  if (border_.defined()) border_.fill_(0);
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
    throw UsageError("this site's constants do not change during training", where(), "build it with equalizer.refresh");
  }
  std::vector<double> mean, growth;
  if (unit_.defined()) {
    check_fit(constants);
    const std::vector<double> before = values_of(unit_);
    overwrite(unit_, of_channels(constants).std);
    const std::vector<double> after = values_of(unit_);
    for (size_t c = 0; c < after.size(); ++c) growth.push_back(after[c] / before[c]);
    return growth;
  }
  const BranchConstants before = of_channels(this->constants());
  LevelSite::set_constants(constants);
  const BranchConstants after = of_channels(this->constants());  // as they are stored: rounded
  for (size_t c = 0; c < after.std.size(); ++c) {
    growth.push_back(after.std[c] / before.std[c]);
    mean.push_back((before.mean[c] - after.mean[c]) / after.std[c]);
  }
  absorb(mean, growth);
  return growth;
}

std::vector<BranchConstants> FusionSite::constants() const {
  std::vector<BranchConstants> constants = LevelSite::constants();
  if (!unit_.defined()) return constants;
  const std::vector<double> units = values_of(unit_);
  for (size_t i = 0; i < branches_.size(); ++i) {
    if (!equalizes(branches_[i])) continue;
    const auto first = units.begin() + branches_[i].first_channel;
    constants[i].std.assign(first, first + (options_.granularity == "channel" ? branches_[i].channels : 1));
    constants[i].mean.assign(constants[i].std.size(), 0);
  }
  return constants;
}

void FusionSite::reset() {
  check_not_folded();
  LevelSite::reset();
  if (border_.defined()) border_.fill_(0);
}

void FusionSite::fold() {
  EqualizerOptions folded = options_;
  folded.mode = "folded";
  folded.refresh = 0;
  if (options_.mode != "explicit" && options_.mode != "learnable") {
    throw UsageError("equalizers of the mode '" + options_.mode + "' cannot be folded", where(),
                     "fold a network trained with explicit or learnable ones");
  }
  check_takes_constants(folded, fusion_);
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
  throw UsageError("the site has folded its constants into the fusion weight already", where(), "build the network anew and measure that");
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

AdditiveSite::AdditiveSite(std::vector<Branch> branches, const Upsampling& upsampling, const EqualizerOptions& options)
    : LevelSite(std::move(branches), upsampling, options) {
  if (branches_.size() != 2 || branches_[0].channels != branches_[1].channels) {
    throw ShapeError("a sum is of two branches with the same channels, not of " + std::to_string(branches_.size()) + " with " +
                         std::to_string(total_channels()) + " together",
                     "AdditiveSite", "give the finer one first");
  }
  if (pads_itself(options)) {
    throw UsageError("a sum has no weights that could take constants over", folds(options) ? "equalizer.mode" : "equalizer.refresh",
                     std::string(folds(options) ? "use explicit or learnable" : "use 0") + ", or leave sums out of equalizer.sites");
  }
  if (has_constants(options) && options.constants == "analytic") {
    throw UsageError("analytic constants are those of batch norm and ReLU, and a sum is neither", "equalizer.constants",
                     "use measured, or leave sums out of equalizer.sites");
  }
  if (has_constants(options) && options.measure != "in_turn") {
    throw UsageError("a sum hands its scale on to the next one, which constants measured while none was equalized would not fit",
                     "equalizer.measure", "use in_turn, or leave sums out of equalizer.sites");
  }
}

Tensor AdditiveSite::forward(const Tensor& fine, const Tensor& coarse) {
  const std::vector<Tensor> arriving = arrive({fine, coarse});
  const int64_t out_h = fine.size(1), out_w = fine.size(2);
  const std::vector<Tensor> addends = equalize(arriving, out_h, out_w, true);
  if (observed()) {
    const auto joined = [&] { return fuse_levels(addends, {.out_h = out_h, .out_w = out_w, .align_corners = upsampling_.align_corners}); };
    notify(arriving, out_h, out_w, options_.mode == "off" ? std::function<Tensor()>() : joined);
  }
  return add(addends[0], upsampling_.resize(addends[1], out_h, out_w));
}

}  // namespace eq
