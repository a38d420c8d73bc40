#pragma once
// What an equalizer does to the inequality of a site's gradients, over several networks: `equiscale study gradients --seeds N`.

#include <string>
#include <vector>

#include "study/snapshots/snapshots.h"
#include "study/statistics/paired.h"

namespace eq {

// grad_ratio of an arm over that of the first arm, networks of one seed in pairs.
struct RatioChange {
  std::string head, site, baseline, arm;
  Factor factor;
};

// Of each site that several branches' gradients can be compared at (no sum, no depthwise convolution), where there are two seeds and two
// arms.
std::vector<RatioChange> ratio_changes(const std::vector<Snapshot>& snapshots);

std::string ratio_changes_table(const std::vector<RatioChange>& changes);  // for the terminal; empty without any

}  // namespace eq
