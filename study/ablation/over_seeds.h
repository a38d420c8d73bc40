#pragma once
// Ablations of networks that differ in the seed alone, together: what a branch contributes on the average of seeds, and what another
// training does to that, in networks of one seed in pairs.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "study/ablation/ablation.h"
#include "study/statistics/paired.h"

namespace eq {

struct AblatedSeeds {
  struct Branch {
    std::string name;
    std::vector<double> lost;          // of mean IoU without it, one a seed
    std::optional<Interval> interval;  // 95 %, of the mean over networks, by Student's t; none for one
    // The same less what the first group's network of that seed loses; empty in the first group, and where no seed is common.
    std::vector<double> change;
    std::optional<Interval> change_interval;
  };
  struct Site {
    std::string site, kind;
    std::vector<Branch> branches;
  };
  std::string name;  // of the folder that all lie in, an arm's; else head and equalizer
  std::vector<int64_t> seeds;
  std::vector<Site> sites;
};

// A group for each configuration, in the order of the runs; a seed that comes again is left out. Nothing where no configuration has two
// seeds.
std::vector<AblatedSeeds> ablated_seeds(const std::vector<AblatedRun>& runs);

nlohmann::ordered_json ablated_seeds_json(const std::vector<AblatedSeeds>& groups);
std::string ablated_seeds_table(const std::vector<AblatedSeeds>& groups);  // for the terminal; empty without any

}  // namespace eq
