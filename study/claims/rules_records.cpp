// Claims about real features, judged by the studies "scales" and "gradients".
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "study/claims/rules.h"

namespace eq {
namespace {

constexpr double kUnequal = 1.25;    // largest over smallest deviation from which scales count as unequal
constexpr double kUnit = 0.02;       // how far from mean 0 and deviation 1 counts as unit scale
constexpr int64_t kMostSites = 75, kMostPairs = 90;  // in percent: of sites that must be unequal, of pairs that must be in order

struct Found {
  std::vector<const SiteEvidence*> sites;
  std::vector<std::string> files;  // as many
};

// The sites in arms of that mode.
Found sites_of(const std::vector<RecordEvidence>& evidence, const std::string& mode) {
  Found found;
  for (const RecordEvidence& study : evidence) {
    for (const SiteEvidence& site : study.sites) {
      if (site.mode != mode || site.branches.size() < 2) continue;
      found.sites.push_back(&site);
      found.files.push_back(study.file);
    }
  }
  return found;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
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
  const Found found = sites_of(scales, "off");
  if (found.sites.empty()) return claim;
  std::vector<double> ratios;
  for (const SiteEvidence* site : found.sites) ratios.push_back(scale_ratio(*site));
  const auto unequal = std::count_if(ratios.begin(), ratios.end(), [](double ratio) { return ratio >= kUnequal; });
  claim.verdict = by_count(unequal, int64_t(ratios.size()), kMostSites);
  claim.measurement = fmt::format(
      "largest over smallest standard deviation {:.2f} to {:.2f}, median {:.2f}, over {} fusion sites; {} of them at {} or more",
      *std::min_element(ratios.begin(), ratios.end()), *std::max_element(ratios.begin(), ratios.end()), median(ratios), ratios.size(),
      unequal, kUnequal);
  claim.evidence = joined(found.files);
  return claim;
}

Claim unit_scale(const std::vector<RecordEvidence>& scales) {
  Claim claim{"Equalizers give every fused feature mean 0 and standard deviation 1, whatever the data", "abstract; section 1.2", "",
              Verdict::kNotMeasured, "equiscale study scales CONFIG --out DIR"};
  const Found found = sites_of(scales, "explicit");  // folded constants leave the features as they are; comparators promise something else
  double mean = 0, std = 0;
  size_t branches = 0;
  for (const SiteEvidence* site : found.sites) {
    for (const BranchEvidence& branch : site->branches) {
      mean = std::max(mean, std::abs(branch.fused_mean));
      std = std::max(std, std::abs(branch.fused_std - 1));
      ++branches;
    }
  }
  if (branches == 0) return claim;
  claim.verdict = mean <= kUnit && std <= kUnit ? Verdict::kHolds : Verdict::kDoesNotHold;
  claim.measurement =
      fmt::format("{} branches: largest |mean| {:.4f}, largest |standard deviation - 1| {:.4f} (limit {})", branches, mean, std, kUnit);
  claim.evidence = joined(found.files);
  return claim;
}

// Pairs of branches of one site whose scales differ: does the larger one have the larger gradient per weight?
Claim gradients_follow(const std::vector<RecordEvidence>& gradients) {
  Claim claim{"On real data too, the branch of larger scale gets the larger gradients", "section 2.1, the gradient argument", "",
              Verdict::kNotMeasured, "equiscale study gradients CONFIG --out DIR"};
  const Found found = sites_of(gradients, "off");
  int64_t pairs = 0, ordered = 0;
  for (const SiteEvidence* site : found.sites) {
    for (const BranchEvidence& a : site->branches) {
      for (const BranchEvidence& b : site->branches) {
        if (!a.weight_grad || !b.weight_grad || a.resized_std < kUnequal * b.resized_std) continue;
        ++pairs;
        ordered += *a.weight_grad / std::sqrt(a.channels) > *b.weight_grad / std::sqrt(b.channels);
      }
    }
  }
  if (pairs == 0) {
    if (found.sites.empty()) return claim;
    claim.measurement = fmt::format("in what was studied no two branches of a site differ in scale by {} or more", kUnequal);
    claim.evidence = "equiscale study gradients CONFIG --heads uper,psp,aspp,sep_aspp,fcn --out DIR";
    return claim;
  }
  claim.verdict = by_count(ordered, pairs, kMostPairs);
  claim.measurement =
      fmt::format("{} of {} pairs of branches whose scales differ by {} or more have their gradients (per weight) in the same order",
                  ordered, pairs, kUnequal);
  claim.evidence = joined(found.files);
  return claim;
}

Claim gradients_equalized(const std::vector<RecordEvidence>& gradients) {
  Claim claim{"Equalizers bring the gradients of the branches closer together", "abstract: bad for gradient descent", "",
              Verdict::kNotMeasured, "equiscale study gradients CONFIG --out DIR"};
  const Found off = sites_of(gradients, "off"), on = sites_of(gradients, "explicit");
  std::vector<double> before, after;
  std::vector<std::string> files;
  for (size_t i = 0; i < off.sites.size(); ++i) {
    for (size_t k = 0; k < on.sites.size(); ++k) {
      const SiteEvidence &a = *off.sites[i], &b = *on.sites[k];
      if (off.files[i] != on.files[k] || a.head != b.head || a.site != b.site || !a.grad_ratio || !b.grad_ratio) continue;
      before.push_back(*a.grad_ratio);
      after.push_back(*b.grad_ratio);
      files.push_back(off.files[i]);
    }
  }
  if (before.empty()) return claim;
  int64_t closer = 0;
  for (size_t i = 0; i < before.size(); ++i) closer += after[i] < before[i];
  claim.verdict = by_count(closer, int64_t(before.size()), kMostPairs);
  claim.measurement = fmt::format(
      "largest over smallest gradient norm of the branches, median over sites: {:.2f} without, {:.2f} with; smaller at {} of {} sites",
      median(before), median(after), closer, before.size());
  claim.evidence = joined(files);
  return claim;
}

}  // namespace

std::vector<Claim> judge_records(const std::vector<RecordEvidence>& scales, const std::vector<RecordEvidence>& gradients) {
  return {unequal_scales(scales), gradients_follow(gradients), unit_scale(scales), gradients_equalized(gradients)};
}

}  // namespace eq
