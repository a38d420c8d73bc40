#include "layers/scale_equalizer.h"

#include <algorithm>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "layers/fusion.h"

namespace eq {

ScaleEqualizer::ScaleEqualizer(int64_t channels, const EqualizerOptions& options)
    : per_channel_(options.granularity == "channel"), floor_(options.floor) {
  if (options.granularity != "channel" && options.granularity != "scalar") {
    throw UsageError("there is no granularity '" + options.granularity + "'", "equalizer.granularity", "use scalar or channel");
  }
  const int64_t size = per_channel_ ? channels : 1;
  mean_ = register_buffer("mean", Tensor::zeros({size}, init::dtype()));
  std_ = register_buffer("std", Tensor::full({size}, 1, init::dtype()));
}

Tensor ScaleEqualizer::inverse_std() const {
  NoGradGuard no_grad;
  return reciprocal(std_);
}

Tensor ScaleEqualizer::forward(const Tensor& x) { return mul(sub(x, mean_), inverse_std()); }

int64_t ScaleEqualizer::set_constants(const std::vector<Moments>& channels) {
  const std::vector<Moments> sources = per_channel_ ? channels : std::vector<Moments>{pooled(channels)};
  int64_t floored = 0;
  dispatch_floating(mean_.dtype(), "ScaleEqualizer", [&]<typename T>() {
    for (size_t i = 0; i < sources.size(); ++i) {
      mean_.data<T>()[i] = T(sources[i].mean);
      const double sigma = sources[i].standard_deviation();
      floored += !(sigma >= floor_);
      std_.data<T>()[i] = T(std::max(floor_, sigma));
    }
  });
  mean_.bump_version();
  std_.bump_version();
  return floored;
}

void ScaleEqualizer::reset() {
  mean_.fill_(0);
  std_.fill_(1);
}

CalibrationReport calibrate_equalizers(Module& model, const std::vector<FusionSite*>& sites, int64_t batches,
                                       const std::function<void(int64_t)>& run_forward) {
  if (batches < 1) throw UsageError("calibration needs at least one batch", "equalizer.batches", "use 32, or at least 1");
  NoGradGuard no_grad;
  const bool was_training = model.is_training();
  std::vector<std::pair<Tensor, Tensor>> kept;
  for (const Module::NamedTensor& buffer : model.named_buffers()) kept.emplace_back(buffer.tensor, buffer.tensor.clone());
  auto restore = [&] {
    for (FusionSite* site : sites) site->set_observer({});
    for (auto& [buffer, value] : kept) buffer.copy_(value);
    model.train(was_training);
  };

  std::vector<std::vector<std::vector<Moments>>> moments;  // [site][branch][channel]
  for (FusionSite* site : sites) {
    auto& of_site = moments.emplace_back();
    for (const FusionSite::Branch& branch : site->branches()) {
      of_site.emplace_back(branch.channels);
      if (branch.equalizer) branch.equalizer->reset();
    }
  }
  for (size_t s = 0; s < sites.size(); ++s) {
    sites[s]->set_observer([&of_site = moments[s]](const FusionSite& site, const std::vector<Tensor>&, const Tensor& resized) {
      for (size_t b = 0; b < of_site.size(); ++b) {
        const FusionSite::Branch& branch = site.branches()[b];
        const auto seen = channel_moments(resized, branch.first_channel, branch.first_channel + branch.channels);
        for (size_t c = 0; c < seen.size(); ++c) of_site[b][c].merge(seen[c]);
      }
    });
  }
  model.train();
  try {
    for (int64_t i = 0; i < batches; ++i) run_forward(i);
  } catch (...) {
    restore();
    throw;
  }
  restore();

  CalibrationReport report;
  report.batches = batches;
  for (size_t s = 0; s < sites.size(); ++s) {
    for (size_t b = 0; b < moments[s].size(); ++b) {
      const FusionSite::Branch& branch = sites[s]->branches()[b];
      const Moments all = pooled(moments[s][b]);
      const int64_t floored = branch.equalizer ? branch.equalizer->set_constants(moments[s][b]) : 0;
      report.branches.push_back({sites[s]->path(), branch.name, all.mean, all.standard_deviation(), branch.equalizer != nullptr, floored > 0});
    }
  }
  return report;
}

}  // namespace eq
