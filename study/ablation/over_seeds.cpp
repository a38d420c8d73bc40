#include "study/ablation/over_seeds.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "core/json.h"
#include "core/words.h"
#include "study/study_head.h"

namespace eq {
namespace {

using nlohmann::ordered_json;
using Runs = std::vector<const AblatedRun*>;

// By configuration; one run a seed.
std::vector<Runs> alike(const std::vector<AblatedRun>& runs) {
  std::vector<Runs> groups;
  for (const AblatedRun& run : runs) {
    const auto found = std::find_if(groups.begin(), groups.end(), [&](const Runs& group) { return group[0]->training == run.training; });
    if (found == groups.end()) {
      groups.push_back({&run});
    } else if (std::none_of(found->begin(), found->end(), [&](const AblatedRun* other) { return other->seed == run.seed; })) {
      found->push_back(&run);
    }
  }
  return groups;
}

std::string name_of(const Runs& runs, const std::set<std::string>& taken) {
  std::set<std::string> parents;
  for (const AblatedRun* run : runs) parents.insert(std::filesystem::path(run->run).parent_path().generic_string());
  const std::string &parent = *parents.begin(), arm = std::filesystem::path(parent).filename().generic_string();
  const bool together = parents.size() == 1 && !arm.empty();
  std::string base = together ? arm : runs[0]->head + ", equalizer " + runs[0]->equalizer;
  if (together && taken.contains(base)) base = parent;
  std::string name = base;
  for (int again = 2; taken.contains(name); ++again) name = fmt::format("{} ({})", base, again);
  return name;
}

double lost(const AblatedRun& run, size_t site, size_t branch) { return run.metrics.miou - run.sites[site].branches[branch].metrics.miou; }

// What the branch contributes to the network of that seed, by the names of site and branch; none where there is none.
std::optional<double> lost_by_name(const Runs& runs, int64_t seed, const std::string& site, const std::string& branch) {
  for (const AblatedRun* run : runs) {
    if (run->seed != seed) continue;
    for (size_t s = 0; s < run->sites.size(); ++s) {
      if (run->sites[s].site != site) continue;
      for (size_t b = 0; b < run->sites[s].branches.size(); ++b) {
        if (run->sites[s].branches[b].name == branch) return lost(*run, s, b);
      }
    }
  }
  return std::nullopt;
}

AblatedSeeds group_of(const Runs& runs, const Runs* first) {
  AblatedSeeds group;
  for (const AblatedRun* run : runs) group.seeds.push_back(run->seed);
  for (size_t s = 0; s < runs[0]->sites.size(); ++s) {
    const AblatedSite& of = runs[0]->sites[s];
    AblatedSeeds::Site& site = group.sites.emplace_back(AblatedSeeds::Site{of.site, of.kind, {}});
    for (size_t b = 0; b < of.branches.size(); ++b) {
      AblatedSeeds::Branch& branch = site.branches.emplace_back();
      branch.name = of.branches[b].name;
      for (const AblatedRun* run : runs) {
        branch.lost.push_back(lost(*run, s, b));
        if (first == nullptr) continue;
        const auto before = lost_by_name(*first, run->seed, site.site, branch.name);
        if (before) branch.change.push_back(branch.lost.back() - *before);
      }
      branch.interval = t_interval(branch.lost);
      branch.change_interval = t_interval(branch.change);
    }
  }
  return group;
}

std::string mean_points(const std::vector<double>& shares) { return shares.empty() ? "" : fmt::format("{:.2f}", 100 * mean_of(shares)); }

std::string between(const std::optional<Interval>& interval) {
  return interval ? fmt::format("{:.2f} to {:.2f}", 100 * (*interval)[0], 100 * (*interval)[1]) : "";
}

}  // namespace

std::vector<AblatedSeeds> ablated_seeds(const std::vector<AblatedRun>& runs) {
  const std::vector<Runs> groups = alike(runs);
  if (std::all_of(groups.begin(), groups.end(), [](const Runs& group) { return group.size() < 2; })) return {};
  std::vector<AblatedSeeds> result;
  std::set<std::string> names;
  for (const Runs& group : groups) {
    result.push_back(group_of(group, result.empty() ? nullptr : &groups[0]));
    result.back().name = name_of(group, names);
    names.insert(result.back().name);
  }
  return result;
}

ordered_json ablated_seeds_json(const std::vector<AblatedSeeds>& groups) {
  ordered_json all = ordered_json::array();
  for (const AblatedSeeds& group : groups) {
    ordered_json sites = ordered_json::array();
    for (const AblatedSeeds::Site& site : group.sites) {
      ordered_json branches = ordered_json::array();
      for (const AblatedSeeds::Branch& branch : site.branches) {
        branches.push_back({{"name", branch.name},
                            {"lost", number_or_null(mean_of(branch.lost))},
                            {"lost_interval", interval_json(branch.interval)},
                            {"lost_by_seed", branch.lost},
                            {"change", branch.change.empty() ? ordered_json(nullptr) : ordered_json(mean_of(branch.change))},
                            {"change_interval", interval_json(branch.change_interval)},
                            {"change_by_seed", branch.change}});
      }
      sites.push_back({{"site", site.site}, {"kind", site.kind}, {"branches", branches}});
    }
    all.push_back({{"name", group.name}, {"seeds", group.seeds}, {"sites", sites}});
  }
  return all;
}

std::string ablated_seeds_table(const std::vector<AblatedSeeds>& groups) {
  std::string text;
  for (const AblatedSeeds& group : groups) {
    const bool changes = &group != &groups.front();
    text += fmt::format("{}: mean of {}\n", group.name, counted(int64_t(group.seeds.size()), "seed"));
    for (const AblatedSeeds::Site& site : group.sites) {
      const auto row = [&](const std::string& name, const std::string& lost, const std::string& over, const std::string& change,
                           const std::string& seed_by_seed) {
        text += fmt::format("    {:<12} {:>8}  {:<18}{:>8}  {}", name, lost, over, change, seed_by_seed);
        while (text.back() == ' ') text.pop_back();
        text += "\n";
      };
      text += fmt::format("  {} ({})\n", site.site, site.kind);
      row("without", "lost", "over networks", changes ? "change" : "", changes ? "less what " + groups.front().name + " loses" : "");
      for (const AblatedSeeds::Branch& branch : site.branches) {
        row(branch.name, mean_points(branch.lost), between(branch.interval), mean_points(branch.change), between(branch.change_interval));
      }
    }
  }
  return text;
}

}  // namespace eq
