#pragma once
// The scales and gradients of fusion sites, as probes.jsonl and the studies of scales and gradients record them.

#include <cstdint>
#include <string>
#include <vector>

#include "study/report/fields.h"
#include "study/report/html.h"
#include "training/probes.h"

namespace eq::report {

SiteRecord read_site(const Fields& fields);

// One site at several iterations.
struct SiteHistory {
  std::vector<double> iterations;
  std::vector<SiteRecord> records;
};

// What calibration.json says of a branch.
struct Calibrated {
  std::string site, branch;
  double mean, std;
  double std_error;  // NaN where it is not known
  bool equalized, floored;
  double growth;  // of a refresh: new over old constant; else NaN
};

// Pictures and a table of the scales of a site, or of its gradients.
Markup scale_figures(const SiteHistory& site, const std::vector<Calibrated>& calibrated);
Markup gradient_figures(const SiteHistory& site);
// The charts alone, without those that have no value: at a site that adds, only what arrives at its branches.
// Of `ratio_changes`: site, arms, mean, interval.
inline constexpr const char* kRatioChanges =
    "That ratio, times what it is in the first arm: geometric mean over the seeds, 95 % interval (t on logarithms)";
std::vector<Cell> ratio_change_row(const Fields& change);

std::vector<Markup> gradient_charts(const SiteHistory& site, const std::string& title_of_arriving);

// The standard deviations of one record's branches: as they arrive, after resizing, as fused, and what white noise would keep. `high` is on
// the axis, so that plots side by side can have the same one: the largest that any of them shows.
Markup scale_snapshot(const SiteRecord& site, double high, const std::string& title, const std::string& caption);
double largest_scale(const SiteRecord& site);  // NaN where none is recorded
Markup scale_table(const SiteRecord& site, const std::string& caption, const std::vector<Calibrated>& calibrated);
Markup gradient_table(const SiteRecord& site, const std::string& caption);

// "decode_head.fpn_fusion: branches are concatenated"
std::string site_title(const SiteRecord& site);

}  // namespace eq::report
