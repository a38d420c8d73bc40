#include "study/snapshots/ratio_changes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace eq {
namespace {

const SiteRecord* find_site(const ProbeRecord& record, const std::string& name) {
  const auto found = std::find_if(record.sites.begin(), record.sites.end(), [&](const SiteRecord& site) { return site.site == name; });
  return found == record.sites.end() ? nullptr : &*found;
}

}  // namespace

std::vector<RatioChange> ratio_changes(const std::vector<Snapshot>& snapshots) {
  std::vector<RatioChange> changes;
  for (const Snapshot& snapshot : snapshots) {
    const auto first = std::find_if(snapshots.begin(), snapshots.end(), [&](const Snapshot& s) { return s.head == snapshot.head; });
    if (&*first == &snapshot || snapshot.by_seed.size() < 2) continue;
    for (const SiteRecord& site : snapshot.record.sites) {
      if (site.depthwise) continue;
      RatioChange change{snapshot.head, site.site, first->arm, snapshot.arm, {}, 1, {}};
      std::vector<double> logs;
      for (size_t seed = 0; seed < std::min(first->by_seed.size(), snapshot.by_seed.size()); ++seed) {
        const SiteRecord *before = find_site(first->by_seed[seed], site.site), *after = find_site(snapshot.by_seed[seed], site.site);
        const double factor = before != nullptr && after != nullptr ? after->grad_ratio / before->grad_ratio : kNotMeasured;
        if (!std::isfinite(factor)) continue;
        change.factors.push_back(factor);
        logs.push_back(std::log(factor));
      }
      if (logs.empty()) continue;
      change.mean = std::exp(mean_of(logs));
      if (const auto interval = t_interval(logs)) change.interval = Interval{std::exp((*interval)[0]), std::exp((*interval)[1])};
      changes.push_back(std::move(change));
    }
  }
  return changes;
}

std::string ratio_changes_table(const std::vector<RatioChange>& changes) {
  if (changes.empty()) return "";
  std::string text = "largest over smallest gradient per weight, times what it is in the first arm, over networks (95 % interval)\n";
  for (const RatioChange& c : changes) {
    const std::string sure = c.interval ? fmt::format(" ({:.3f} to {:.3f})", (*c.interval)[0], (*c.interval)[1]) : "";
    text += fmt::format("  {:<10} {:<28} {:<30} {:.3f}{}, {} seeds\n", c.head, c.site, c.arm + " against " + c.baseline, c.mean, sure, c.factors.size());
  }
  return text;
}

}  // namespace eq
