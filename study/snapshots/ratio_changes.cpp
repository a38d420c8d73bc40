#include "study/snapshots/ratio_changes.h"

#include <fmt/format.h>

#include <algorithm>

namespace eq {
namespace {

double ratio_at(const ProbeRecord& record, const std::string& name) {
  const auto found = std::find_if(record.sites.begin(), record.sites.end(), [&](const SiteRecord& site) { return site.site == name; });
  return found == record.sites.end() ? kNotMeasured : found->grad_ratio;
}

}  // namespace

std::vector<RatioChange> ratio_changes(const std::vector<Snapshot>& snapshots) {
  std::vector<RatioChange> changes;
  for (const Snapshot& snapshot : snapshots) {
    const auto first = std::find_if(snapshots.begin(), snapshots.end(), [&](const Snapshot& s) { return s.head == snapshot.head; });
    if (&*first == &snapshot || snapshot.by_seed.size() < 2) continue;
    for (const SiteRecord& site : snapshot.record.sites) {
      if (site.depthwise) continue;
      std::vector<double> before, after;
      for (size_t seed = 0; seed < std::min(first->by_seed.size(), snapshot.by_seed.size()); ++seed) {
        before.push_back(ratio_at(first->by_seed[seed], site.site));
        after.push_back(ratio_at(snapshot.by_seed[seed], site.site));
      }
      RatioChange change{snapshot.head, site.site, first->arm, snapshot.arm, paired_factor(before, after)};
      if (change.factor.factors.empty()) continue;
      changes.push_back(std::move(change));
    }
  }
  return changes;
}

std::string ratio_changes_table(const std::vector<RatioChange>& changes) {
  if (changes.empty()) return "";
  std::string text = "largest over smallest gradient per weight, times what it is in the first arm, over networks (95 % interval)\n";
  for (const RatioChange& c : changes) {
    text += fmt::format("  {:<10} {:<28} {:<30} {}\n", c.head, c.site, c.arm + " against " + c.baseline, words_of(c.factor));
  }
  return text;
}

}  // namespace eq
