#include "layers/calibration.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "autograd/node.h"
#include "core/kernels/bilinear_variance.h"
#include "core/put_back.h"
#include "layers/moments.h"

namespace eq {
namespace {

struct BranchMoments {
  std::vector<Moments> channels;  // over all batches
  std::vector<Moments> batches;   // over all channels; none where nothing was measured
};
using SiteMoments = std::vector<BranchMoments>;

// Puts a network into training mode, and back: modes, buffers and observers are then what they were.
class Training {
 public:
  explicit Training(Module& model) : modes_(model) {
    for (const Module::NamedTensor& buffer : model.named_buffers()) buffers_.emplace_back(buffer.tensor, buffer.tensor.clone());
    for (LevelSite* site : modules_of<LevelSite>(model)) observers_.emplace_back(site, site->set_observer({}));
    if (!model.is_training()) model.train();
  }
  ~Training() {
    for (auto& [site, observer] : observers_) site->set_observer(std::move(observer));
    for (auto& [buffer, value] : buffers_) put_back([&] { buffer.copy_(value); });
  }
  Training(const Training&) = delete;

 private:
  ModeScope modes_;
  std::vector<std::pair<Tensor, Tensor>> buffers_;
  std::vector<std::pair<LevelSite*, LevelSite::Observer>> observers_;
};

// Gives sites with explicit and learnable equalizers their constants back, and the border that goes with them, unless forget() is called.
class Constants {
 public:
  explicit Constants(const std::vector<LevelSite*>& sites) {
    for (LevelSite* site : sites) {
      if (folds(site->options())) continue;
      for (const Module::NamedTensor& of : site->named_buffers()) before_.emplace_back(of.tensor, of.tensor.clone());
      for (const Module::NamedTensor& of : site->named_parameters()) before_.emplace_back(of.tensor, of.tensor.clone());
    }
  }
  ~Constants() {
    NoGradGuard no_grad;
    for (auto& [tensor, value] : before_) put_back([&] { tensor.copy_(value); });
  }
  Constants(const Constants&) = delete;
  void forget() { before_.clear(); }

 private:
  std::vector<std::pair<Tensor, Tensor>> before_;
};

SiteMoments no_moments(const LevelSite& site) {
  SiteMoments moments;
  for (const LevelSite::Branch& branch : site.branches()) moments.push_back({std::vector<Moments>(size_t(branch.channels)), {}});
  return moments;
}

// `batch` is the one that is running.
void observe(LevelSite& site, SiteMoments& moments, const int64_t& batch) {
  site.set_observer([&moments, &batch](const LevelSite::Visit& visit) {
    const Tensor resized = visit.resized();
    for (size_t b = 0; b < moments.size(); ++b) {
      const LevelSite::Branch& branch = visit.site.branches()[b];
      const auto seen = channel_moments(resized, branch.first_channel, branch.first_channel + branch.channels);
      for (size_t c = 0; c < seen.size(); ++c) {
        if (!std::isfinite(seen[c].mean) || !std::isfinite(seen[c].m2)) {
          throw NumericalError("the features of branch '" + branch.name + "' are not finite (batch " + std::to_string(batch) +
                                   ", channel " + std::to_string(c) + "): their scale cannot be measured",
                               visit.site.path(), "look for weights or pictures with NaN or infinity in them");
        }
        moments[b].channels[c].merge(seen[c]);
      }
      moments[b].batches.push_back(pooled(seen));
    }
  });
}

[[noreturn]] void throw_not_reached(const LevelSite& site) {
  throw UsageError("no pass of the calibration reached this fusion site", site.path(),
                   "run the whole network, auxiliary heads included, or set this site's equalizer.mode to off");
}

// What the equalizer subtracts and divides by, from the moments of each branch. What is silent, its deviation below the floor, is divided
// by that, or keeps the constants that it has.
enum class Silent { kFloor, kKeep };
std::vector<BranchConstants> constants_from(const LevelSite& site, const SiteMoments& moments, Silent silent, std::vector<bool>& floored) {
  const EqualizerOptions& options = site.options();
  const std::vector<BranchConstants> present = site.constants();
  std::vector<Moments> reference_parts;  // the inputs that are not upsampled
  for (size_t b = 0; b < moments.size(); ++b) {
    if (!site.branches()[b].upsampled) reference_parts.push_back(pooled(moments[b].channels));
  }
  const double reference = pooled(reference_parts).standard_deviation();
  const bool matched = options.inputs == "matched" && reference > options.floor;
  std::vector<BranchConstants> all(moments.size());
  floored.assign(moments.size(), false);
  for (size_t b = 0; b < moments.size(); ++b) {
    if (!site.equalizes(site.branches()[b])) continue;
    const auto sources = options.granularity == "channel" ? moments[b].channels : std::vector<Moments>{pooled(moments[b].channels)};
    for (size_t c = 0; c < sources.size(); ++c) {
      double mean = sources[c].mean, std = sources[c].standard_deviation();
      if (!(std >= options.floor)) {
        floored[b] = true;
        if (silent == Silent::kKeep) {
          all[b].mean.push_back(present[b].mean[c]);
          all[b].std.push_back(present[b].std[c]);
          continue;
        }
        std = options.floor;
      }
      if (matched) std /= reference;
      std = std::pow(std, options.exponent);
      if (matched) mean *= 1 - std;  // (x - mean (1 - s)) / s has the mean of x
      if (!options.center) mean = 0;
      all[b].mean.push_back(mean);
      all[b].std.push_back(std);
    }
  }
  return all;
}

// White noise behind batch norm and ReLU, then resized from [h,w] of each branch: as moments of that mean and variance.
SiteMoments analytic(const LevelSite& site, const std::vector<std::pair<double, double>>& factors) {
  SiteMoments moments;
  for (size_t b = 0; b < site.branches().size(); ++b) {
    const double shrunk = kRectifiedNormalVariance * factors[b].first * factors[b].second;
    const Moments one = {.count = 1, .mean = kRectifiedNormalMean, .m2 = shrunk};
    moments.push_back({std::vector<Moments>(size_t(site.branches()[b].channels), one), {}});
  }
  return moments;
}

// The constants of a site, and their rows in the report.
std::vector<BranchConstants> conclude(const LevelSite& site, const SiteMoments& moments, CalibrationReport& report,
                                      Silent silent = Silent::kFloor) {
  std::vector<bool> floored;
  std::vector<BranchConstants> constants = constants_from(site, moments, silent, floored);
  for (size_t b = 0; b < moments.size(); ++b) {
    const LevelSite::Branch& branch = site.branches()[b];
    const Moments all = pooled(moments[b].channels);
    const StandardErrors errors = standard_errors(moments[b].batches);
    report.branches.push_back({.site = site.path(),
                               .branch = branch.name,
                               .mean = all.mean,
                               .std = all.standard_deviation(),
                               .mean_error = errors.mean,
                               .std_error = errors.deviation,
                               .equalized = site.equalizes(branch),
                               .floored = floored[b]});
  }
  return constants;
}

// Over some passes, of several sites at once.
std::vector<SiteMoments> measure(Module& model, const std::vector<LevelSite*>& sites, int64_t batches,
                                 const std::function<void(int64_t)>& run_forward) {
  std::vector<SiteMoments> moments;
  for (LevelSite* site : sites) moments.push_back(no_moments(*site));
  {
    const Training training(model);
    int64_t batch = 0;
    for (size_t s = 0; s < sites.size(); ++s) observe(*sites[s], moments[s], batch);
    for (; batch < batches; ++batch) run_forward(batch);
  }
  for (size_t s = 0; s < sites.size(); ++s) {
    if (pooled(moments[s][0].batches).count == 0) throw_not_reached(*sites[s]);
  }
  return moments;
}

// As a pass reaches them: a top-down path goes from its last sum to its first.
std::vector<LevelSite*> in_order_of_visits(Module& model, const std::vector<LevelSite*>& sites,
                                           const std::function<void(int64_t)>& run_forward) {
  std::vector<LevelSite*> visited;
  const Training training(model);
  for (LevelSite* site : sites) {
    site->set_observer([&visited, site](const LevelSite::Visit&) {
      if (std::find(visited.begin(), visited.end(), site) == visited.end()) visited.push_back(site);
    });
  }
  run_forward(0);
  for (const LevelSite* site : sites) {
    if (std::find(visited.begin(), visited.end(), site) == visited.end()) throw_not_reached(*site);
  }
  return visited;
}

// The sites that have constants; all are measured in one way.
std::vector<LevelSite*> sites_to_measure(Module& model) {
  std::vector<LevelSite*> sites;
  for (LevelSite* site : modules_of<LevelSite>(model)) {
    if (has_constants(site->options())) sites.push_back(site);
  }
  for (const LevelSite* site : sites) {
    const EqualizerOptions &own = site->options(), &first = sites[0]->options();
    if (own.batches != first.batches || own.constants != first.constants || own.measure != first.measure) {
      throw UsageError("the sites of one network are calibrated in one way", site->path(),
                       "give all the same equalizer.batches, constants and measure");
    }
    if (own.batches < 1) throw UsageError("calibration needs at least one batch", "equalizer.batches", "use 32, or at least 1");
  }
  return sites;
}

}  // namespace

CalibrationReport calibrate_equalizers(Module& model, const std::function<void(int64_t)>& run_forward) {
  CalibrationReport report;
  std::vector<LevelSite*> sites = sites_to_measure(model);
  if (sites.empty()) return report;
  const EqualizerOptions& options = sites[0]->options();
  NoGradGuard no_grad;
  Constants before(sites);
  for (LevelSite* site : sites) site->reset();

  if (options.constants == "analytic") {
    std::map<const LevelSite*, std::vector<std::pair<double, double>>> factors;
    {
      const Training training(model);
      for (LevelSite* site : sites) {
        site->set_observer([&](const LevelSite::Visit& visit) {
          auto& of_site = factors[&visit.site];
          for (const Tensor& feature : visit.features) {
            of_site.emplace_back(visit.upsampling().variance_factor(feature.size(1), visit.out_h),
                                 visit.upsampling().variance_factor(feature.size(2), visit.out_w));
          }
        });
      }
      run_forward(0);
    }
    for (const LevelSite* site : sites) {
      if (!factors.contains(site)) throw_not_reached(*site);
    }
    for (LevelSite* site : sites) site->set_constants(conclude(*site, analytic(*site, factors.at(site)), report));
    before.forget();
    return report;
  }

  report.batches = options.batches;
  const bool in_turn = options.measure == "in_turn";
  if (in_turn && sites.size() > 1) sites = in_order_of_visits(model, sites, run_forward);
  for (size_t first = 0; first < sites.size(); first = in_turn ? first + 1 : sites.size()) {
    const std::vector<LevelSite*> now(sites.begin() + std::ptrdiff_t(first),
                                      in_turn ? sites.begin() + std::ptrdiff_t(first) + 1 : sites.end());
    const std::vector<SiteMoments> moments = measure(model, now, options.batches, run_forward);
    for (size_t s = 0; s < now.size(); ++s) now[s]->set_constants(conclude(*now[s], moments[s], report));
  }
  before.forget();
  return report;
}

NewConstants measure_again(Module& model, const std::function<void(int64_t)>& run_forward) {
  NewConstants result;
  const std::vector<LevelSite*> sites = sites_to_measure(model);
  for (LevelSite* site : sites) {
    auto* fusion = dynamic_cast<FusionSite*>(site);
    if (fusion == nullptr || !refreshes(site->options())) {
      throw UsageError("this site's constants do not change during training", site->path(), "build it with equalizer.refresh");
    }
    result.sites.push_back({fusion, {}});
  }
  if (sites.empty()) return result;
  NoGradGuard no_grad;
  result.report.batches = sites[0]->options().batches;
  const std::vector<SiteMoments> moments = measure(model, sites, result.report.batches, run_forward);
  for (size_t s = 0; s < sites.size(); ++s) {
    result.sites[s].constants = conclude(*sites[s], moments[s], result.report, Silent::kKeep);
  }
  return result;
}

}  // namespace eq
