// How unequal the gradients of a site's branches are along the runs of a paired study, where they were probed.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "core/json.h"
#include "study/paired/run.h"
#include "study/report/fields.h"

namespace eq {
namespace {

using nlohmann::json;

SiteRatios& named(std::vector<SiteRatios>& sites, const std::string& name) {
  const auto found = std::find_if(sites.begin(), sites.end(), [&](const SiteRatios& site) { return site.site == name; });
  return found != sites.end() ? *found : sites.emplace_back(SiteRatios{name, {}, {}});
}

const SiteRatios* find_site(const PairedRun& run, const std::string& name) {
  const auto found =
      std::find_if(run.grad_ratios.begin(), run.grad_ratios.end(), [&](const SiteRatios& site) { return site.site == name; });
  return found == run.grad_ratios.end() ? nullptr : &*found;
}

// A site's ratios under two arms, one entry a seed that both have.
struct Pairs {
  std::vector<const SiteRatios*> before, after;
};

Pairs pairs_of(const PairedStudy& study, const std::string& baseline, const std::string& arm, const std::string& site) {
  Pairs pairs;
  for (const PairedRun& a : study.runs) {
    for (const PairedRun& b : study.runs) {
      if (a.arm != baseline || b.arm != arm || a.seed != b.seed) continue;
      const SiteRatios *before = find_site(a, site), *after = find_site(b, site);
      if (before == nullptr || after == nullptr) continue;
      pairs.before.push_back(before);
      pairs.after.push_back(after);
    }
  }
  return pairs;
}

// The iterations that all of them have a record of, in order.
std::vector<int64_t> common_iterations(const Pairs& pairs) {
  if (pairs.before.empty()) return {};
  std::vector<int64_t> common = pairs.before.front()->iterations;
  for (const auto* sites : {&pairs.before, &pairs.after}) {
    for (const SiteRatios* site : *sites) {
      std::vector<int64_t> both;
      std::set_intersection(common.begin(), common.end(), site->iterations.begin(), site->iterations.end(), std::back_inserter(both));
      common = std::move(both);
    }
  }
  return common;
}

double at(const SiteRatios& site, int64_t iteration) {
  return site.ratios[size_t(std::lower_bound(site.iterations.begin(), site.iterations.end(), iteration) - site.iterations.begin())];
}

}  // namespace

std::vector<SiteRatios> read_grad_ratios(const std::filesystem::path& probes) {
  std::vector<SiteRatios> sites;
  for (const json& row : report::read_json_lines(probes)) {
    try {
      const std::optional<int64_t> iteration = whole_number(row.at("iteration"));
      if (!iteration) continue;
      for (const json& of_site : row.at("sites")) {
        const json& ratio = of_site.at("grad_ratio");
        if (!ratio.is_number() || of_site.value("depthwise", false)) continue;
        SiteRatios& site = named(sites, of_site.at("site").get<std::string>());
        if (!site.iterations.empty() && *iteration <= site.iterations.back()) continue;
        site.iterations.push_back(*iteration);
        site.ratios.push_back(ratio.get<double>());
      }
    } catch (const json::exception& error) {
      throw DataError("a probe's record lacks something: " + json_reason(error.what()), probes.string(),
                      "delete this run's folder; it will be made again");
    }
  }
  return sites;
}

std::vector<RatioComparison> compare_grad_ratios(const PairedStudy& study) {
  std::vector<RatioComparison> comparisons;
  const std::string& baseline = study.arms.arms.front().spec.name;
  std::vector<SiteRatios> sites;  // their names, in order
  for (const PairedRun& run : study.runs) {
    for (const SiteRatios& site : run.grad_ratios) named(sites, site.site);
  }
  for (const SiteRatios& site : sites) {
    for (size_t i = 1; i < study.arms.arms.size(); ++i) {
      const std::string& arm = study.arms.arms[i].spec.name;
      const Pairs pairs = pairs_of(study, baseline, arm, site.site);
      std::vector<int64_t> ends = common_iterations(pairs);
      if (ends.size() > 2) ends = {ends.front(), ends.back()};
      for (const int64_t iteration : ends) {
        std::vector<double> before, after;
        for (const SiteRatios* of_run : pairs.before) before.push_back(at(*of_run, iteration));
        for (const SiteRatios* of_run : pairs.after) after.push_back(at(*of_run, iteration));
        comparisons.push_back({site.site, baseline, arm, iteration, paired_factor(before, after)});
      }
    }
  }
  return comparisons;
}

std::string grad_ratios_table(const std::vector<RatioComparison>& comparisons) {
  if (comparisons.empty()) return "";
  std::string text = "largest over smallest gradient per weight, times what it is in the first arm (95 % interval)\n";
  for (const RatioComparison& c : comparisons) {
    text += fmt::format("  {:<28} iteration {:<8} {:<30} {}\n", c.site, c.iteration, c.arm + " against " + c.baseline, words_of(c.factor));
  }
  return text;
}

}  // namespace eq
