// Claims about real features, judged by the studies "scales" and "gradients".
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/words.h"
#include "study/claims/rules.h"
#include "study/statistics/slope.h"

namespace eq {
namespace {

constexpr double kUnequal = 1.25;    // largest over smallest deviation from which scales count as unequal
constexpr double kUnit = 0.02;       // how far from mean 0 and deviation 1 counts as unit scale
constexpr double kErrors = 3;        // or so many standard errors: then the batches are too few to tell
constexpr int64_t kMostSites = 75;   // in percent: of sites that must be unequal

// One site of one head of one study, in arms of one mode: a record for each seed.
struct Site {
  std::string file;
  std::vector<const SiteEvidence*> seeds;
  const SiteEvidence& first() const { return *seeds.front(); }
};

// To the last digit, which only the same measurement gives twice: another study has its record, too.
bool same_record(const SiteEvidence& a, const SiteEvidence& b) {
  return a.head == b.head && a.site == b.site &&
         std::equal(a.branches.begin(), a.branches.end(), b.branches.begin(), b.branches.end(),
                    [](const BranchEvidence& x, const BranchEvidence& y) {
                      return x.resized_std == y.resized_std && x.fused_std == y.fused_std && x.weight_grad == y.weight_grad;
                    });
}

bool known(const std::vector<Site>& sites, const std::string& file, const SiteEvidence& record) {
  return std::any_of(sites.begin(), sites.end(), [&](const Site& site) {
    return site.file != file &&
           std::any_of(site.seeds.begin(), site.seeds.end(), [&](const SiteEvidence* seed) { return same_record(*seed, record); });
  });
}

std::vector<Site> sites_of(const std::vector<RecordEvidence>& evidence, const std::string& mode) {
  std::vector<Site> sites;
  for (const RecordEvidence& study : evidence) {
    for (const SiteEvidence& site : study.sites) {
      if (site.mode != mode || site.branches.size() < 2 || known(sites, study.file, site)) continue;
      const auto same = [&](const Site& other) {
        return other.file == study.file && other.first().head == site.head && other.first().site == site.site &&
               other.first().branches.size() == site.branches.size();
      };
      auto found = std::find_if(sites.begin(), sites.end(), same);
      if (found == sites.end()) found = sites.insert(sites.end(), Site{study.file, {}});
      found->seeds.push_back(&site);
    }
  }
  return sites;
}

std::string files_of(const std::vector<Site>& sites) {
  std::vector<std::string> files;
  for (const Site& site : sites) files.push_back(site.file);
  return once_each(files);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

// The geometric mean over the seeds; NaN where one has none.
template <class Value>
double over_seeds(const Site& site, Value value) {
  double sum = 0;
  for (const SiteEvidence* seed : site.seeds) sum += std::log(value(*seed));
  return std::exp(sum / double(site.seeds.size()));
}

double scale_ratio(const SiteEvidence& site) {
  const auto [low, high] =
      std::minmax_element(site.branches.begin(), site.branches.end(),
                          [](const BranchEvidence& a, const BranchEvidence& b) { return a.resized_std < b.resized_std; });
  return high->resized_std / std::max(1e-30, low->resized_std);
}

// In whole numbers: 1 - 0.9 is less than 1 / 10.
Verdict by_count(int64_t agree, int64_t all, int64_t percent) {
  if (100 * agree >= percent * all) return Verdict::kHolds;
  return 100 * (all - agree) >= percent * all ? Verdict::kDoesNotHold : Verdict::kNotSettled;
}

Claim unequal_scales(const std::vector<RecordEvidence>& scales) {
  Claim claim{"The levels that are fused differ in scale at the first step", "abstract: scale disequilibrium", "", Verdict::kNotMeasured,
              "equiscale study scales CONFIG --out DIR"};
  const std::vector<Site> sites = sites_of(scales, "off");
  if (sites.empty()) return claim;
  std::vector<double> ratios;
  for (const Site& site : sites) ratios.push_back(over_seeds(site, scale_ratio));
  const auto unequal = std::count_if(ratios.begin(), ratios.end(), [](double ratio) { return ratio >= kUnequal; });
  claim.verdict = by_count(unequal, int64_t(ratios.size()), kMostSites);
  claim.measurement = fmt::format(
      "largest over smallest standard deviation {:.2f} to {:.2f}, median {:.2f}, over {} fusion sites; {} of them at {} or more",
      *std::min_element(ratios.begin(), ratios.end()), *std::max_element(ratios.begin(), ratios.end()), median(ratios), ratios.size(),
      unequal, kUnequal);
  claim.evidence = files_of(sites);
  return claim;
}

Claim unit_scale(const std::vector<RecordEvidence>& scales) {
  Claim claim{"At the first step equalizers give every fused feature mean 0 and standard deviation 1, on other batches of the set, too",
              "abstract; section 1.2", "", Verdict::kNotMeasured, "equiscale study scales CONFIG --out DIR"};
  const std::vector<Site> sites = sites_of(scales, "explicit");  // folded constants leave the features as they are; comparators promise something else
  double mean = 0, std = 0, beyond = 0;                          // beyond: the most over what the batches' noise explains
  size_t branches = 0;
  for (const Site& site : sites) {
    for (const SiteEvidence* seed : site.seeds) {
      for (const BranchEvidence& branch : seed->branches) {
        const double shift = std::abs(branch.fused_mean), stretch = std::abs(branch.fused_std - 1);
        mean = std::max(mean, shift);
        std = std::max(std, stretch);
        beyond =
            std::max({beyond, shift - std::max(kUnit, kErrors * branch.mean_error), stretch - std::max(kUnit, kErrors * branch.std_error)});
      }
    }
    branches += site.first().branches.size();
  }
  if (branches == 0) return claim;
  const bool unit = mean <= kUnit && std <= kUnit;
  claim.verdict = unit ? Verdict::kHolds : beyond > 0 ? Verdict::kDoesNotHold : Verdict::kNotSettled;
  claim.measurement =
      fmt::format("{} branches: largest |mean| {:.4f}, largest |standard deviation - 1| {:.4f} (limit {}){}", branches, mean, std, kUnit,
                  unit || beyond > 0 ? "" : "; within the noise of so few batches: equalizer.batches and --batches would tell");
  claim.evidence = files_of(sites);
  return claim;
}

double per_weight(const BranchEvidence& branch) {
  return branch.weight_grad ? *branch.weight_grad / std::sqrt(branch.channels) : std::numeric_limits<double>::quiet_NaN();
}

// Where the gradient can tell a scale: behind a batch norm a filter that reads one channel gets the same gradient at any scale of it
// (checked by study theory).
std::vector<Site> sites_with_gradients(const std::vector<RecordEvidence>& gradients, const std::string& mode) {
  std::vector<Site> sites = sites_of(gradients, mode);
  std::erase_if(sites, [](const Site& site) { return site.first().depthwise; });
  return sites;
}

// Over all branches of all sites: gradient per weight as a power of the scale, one factor for each site left free.
Claim gradients_follow(const std::vector<RecordEvidence>& gradients) {
  Claim claim{"On real data too, the branch of larger scale gets the larger gradients", "section 2.1, the gradient argument", "",
              Verdict::kNotMeasured, "equiscale study gradients CONFIG --out DIR"};
  const std::vector<Site> sites = sites_with_gradients(gradients, "off");
  std::vector<PointGroup> groups;
  int64_t pairs = 0, ordered = 0;
  for (const Site& site : sites) {
    PointGroup group;
    for (size_t b = 0; b < site.first().branches.size(); ++b) {
      group.x.push_back(std::log(over_seeds(site, [b](const SiteEvidence& seed) { return seed.branches[b].resized_std; })));
      group.y.push_back(std::log(over_seeds(site, [b](const SiteEvidence& seed) { return per_weight(seed.branches[b]); })));
    }
    for (size_t a = 0; a < group.x.size(); ++a) {
      for (size_t b = 0; b < group.x.size(); ++b) {
        if (!(group.x[a] - group.x[b] >= std::log(kUnequal)) || !std::isfinite(group.y[a] - group.y[b])) continue;
        ++pairs;
        ordered += group.y[a] > group.y[b];
      }
    }
    groups.push_back(std::move(group));
  }
  const std::optional<CommonSlope> slope = common_slope(groups);
  if (!slope) return claim;
  claim.evidence = files_of(sites);
  claim.verdict = Verdict::kNotSettled;
  claim.measurement = fmt::format("over {} sites the gradient per weight goes as the scale to the power {:+.2f}", groups.size(), slope->value);
  if (const auto& interval = slope->interval) {
    if ((*interval)[0] > 0) claim.verdict = Verdict::kHolds;
    if ((*interval)[1] < 0) claim.verdict = Verdict::kDoesNotHold;
    claim.measurement +=
        fmt::format(" ({:+.2f} to {:+.2f}; 1 where output gradients do not depend on the input)", (*interval)[0], (*interval)[1]);
  } else {
    claim.measurement += "; fewer than three sites give no interval";
  }
  claim.measurement += fmt::format("; of {} of branches whose scales differ by {} or more, {} {} the gradients in the same order",
                                   counted(pairs, "pair"), kUnequal, ordered, ordered == 1 ? "has" : "have");
  return claim;
}

// At sites whose scales are unequal; elsewhere there is nothing to bring closer.
Claim gradients_equalized(const std::vector<RecordEvidence>& gradients) {
  Claim claim{"Where scales are unequal, equalizers bring the gradients of the branches closer together", "abstract: bad for gradient descent",
              "", Verdict::kNotMeasured, "equiscale study gradients CONFIG --heads uper,psp,aspp,sep_aspp,fcn --out DIR"};
  const std::vector<Site> off = sites_with_gradients(gradients, "off"), on = sites_with_gradients(gradients, "explicit");
  const auto ratio = [](const SiteEvidence& seed) { return seed.grad_ratio.value_or(std::numeric_limits<double>::quiet_NaN()); };
  std::vector<double> before, after, changes;
  std::vector<Site> compared;
  int64_t equal = 0;
  for (const Site& a : off) {
    for (const Site& b : on) {
      if (a.file != b.file || a.first().head != b.first().head || a.first().site != b.first().site) continue;
      const double without = over_seeds(a, ratio), with = over_seeds(b, ratio);
      if (!std::isfinite(without) || !std::isfinite(with)) continue;
      if (over_seeds(a, scale_ratio) < kUnequal) {
        ++equal;
        continue;
      }
      before.push_back(without);
      after.push_back(with);
      changes.push_back(std::log(with / without));
      compared.push_back(a);
    }
  }
  if (before.empty()) {
    if (equal > 0) claim.measurement = fmt::format("at none of {} sites do scales differ by {} or more", equal, kUnequal);
    return claim;
  }
  const auto closer = std::count_if(changes.begin(), changes.end(), [](double change) { return change < 0; });
  claim.verdict = Verdict::kNotSettled;
  claim.measurement = fmt::format("largest over smallest gradient per weight, median over {} sites whose scales differ by {} or more: {:.2f} "
                                  "without, {:.2f} with; smaller at {} of them",
                                  before.size(), kUnequal, median(before), median(after), closer);
  if (const auto interval = changes.size() < 3 ? std::nullopt : t_interval(changes)) {
    if ((*interval)[1] < 0) claim.verdict = Verdict::kHolds;
    if ((*interval)[0] > 0) claim.verdict = Verdict::kDoesNotHold;
    claim.measurement += fmt::format("; changed by a factor of {:.2f} ({:.2f} to {:.2f})", std::exp(mean_of(changes)),
                                     std::exp((*interval)[0]), std::exp((*interval)[1]));
  } else {
    claim.measurement += "; fewer than three sites give no interval";
  }
  claim.evidence = files_of(compared);
  return claim;
}

}  // namespace

std::vector<Claim> judge_records(const std::vector<RecordEvidence>& scales, const std::vector<RecordEvidence>& gradients) {
  return {unequal_scales(scales), gradients_follow(gradients), unit_scale(scales), gradients_equalized(gradients)};
}

}  // namespace eq
