#include "layers/scale_equalizer.h"

#include <algorithm>
#include <cmath>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "layers/init.h"

namespace eq {
namespace {

int64_t constant_count(int64_t channels, const EqualizerOptions& options) {
  return options.granularity == "channel" ? channels : 1;
}

void assign(Tensor& target, const std::vector<double>& values, const std::string& where) {
  if (int64_t(values.size()) != target.numel()) {
    throw ShapeError("the equalizer has " + std::to_string(target.numel()) + " constants, not " + std::to_string(values.size()), where,
                     "set one pair, or one per channel, as equalizer.granularity says");
  }
  target.copy_(Tensor::from<double>(values, {target.numel()}).to(target.dtype()));
}

}  // namespace

EqualizerOptions at_site(const EqualizerOptions& options, const std::string& site) {
  return options.sites.empty() ? options : at_sum(options, site);
}

EqualizerOptions at_sum(const EqualizerOptions& options, const std::string& site) {
  EqualizerOptions own = options;
  if (std::find(options.sites.begin(), options.sites.end(), site) == options.sites.end()) own.mode = "off";
  return own;
}

const std::vector<std::string>& equalizer_modes() {
  static const std::vector<std::string> modes = {"off",       "explicit",   "folded",     "folded_normalised", "folded_lr",
                                                 "learnable", "batch_norm", "layer_norm", "l2_norm",           "weighted"};
  return modes;
}

ScaleEqualizer::ScaleEqualizer(int64_t channels, const EqualizerOptions& options) {
  const int64_t count = constant_count(channels, options);
  mean_ = register_buffer("mean", Tensor::zeros({count}, init::dtype()));
  std_ = register_buffer("std", Tensor::full({count}, 1, init::dtype()));
}

Tensor ScaleEqualizer::inverse_std() const {
  NoGradGuard no_grad;
  return reciprocal(std_);
}

Tensor ScaleEqualizer::forward(const Tensor& x) { return mul(sub(x, cast(mean_, x.dtype())), cast(inverse_std(), x.dtype())); }

void ScaleEqualizer::set(const BranchConstants& constants) {
  assign(mean_, constants.mean, path());
  assign(std_, constants.std, path());
}

BranchConstants ScaleEqualizer::get() const {
  return {mean_.to(DType::kFloat64).to_vector<double>(), std_.to(DType::kFloat64).to_vector<double>()};
}

LearnableEqualizer::LearnableEqualizer(int64_t channels, const EqualizerOptions& options) {
  const int64_t count = constant_count(channels, options);
  shift_ = register_parameter("shift", Tensor::zeros({count}, init::dtype()));
  scale_ = register_parameter("scale", Tensor::full({count}, 1, init::dtype()));
}

Tensor LearnableEqualizer::forward(const Tensor& x) { return mul(sub(x, cast(shift_, x.dtype())), cast(scale_, x.dtype())); }

void LearnableEqualizer::set(const BranchConstants& constants) {
  NoGradGuard no_grad;
  std::vector<double> scale;
  for (double std : constants.std) scale.push_back(1 / std);
  assign(shift_, constants.mean, path());
  assign(scale_, scale, path());
}

BranchConstants LearnableEqualizer::get() const {
  NoGradGuard no_grad;
  BranchConstants constants{shift_.to(DType::kFloat64).to_vector<double>(), scale_.to(DType::kFloat64).to_vector<double>()};
  for (double& std : constants.std) std = 1 / std;
  return constants;
}

L2Norm::L2Norm(int64_t channels)
    : gain_(register_parameter("weight", Tensor::full({channels}, std::sqrt(double(channels)), init::dtype()))) {}

Tensor L2Norm::forward(const Tensor& x) { return mul(mul(x, rsqrt(sum(square(x), {-1}, true) + 1e-10)), cast(gain_, x.dtype())); }

std::string L2Norm::description() const { return "L2Norm " + std::to_string(gain_.numel()); }

}  // namespace eq
