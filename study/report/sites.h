#pragma once
// The scales and gradients of fusion sites, as probes.jsonl and the studies of scales and gradients record them.

#include <cstdint>
#include <string>
#include <vector>

#include "study/report/fields.h"
#include "study/report/html.h"

namespace eq::report {

struct Scale {
  double mean, std;
};

struct BranchRecord {
  std::string name;
  int64_t channels = 0, height = 0, width = 0;
  bool upsampled = false;
  Scale before, resized, fused;
  double within_image, between_images, between_channels;  // parts of the variance after resizing
  double lag_one, predicted_factor, measured_factor;      // NaN where nothing is resized
  double white_factor;                                    // the variance that resizing would leave of uncorrelated pixels
  double weight_grad, weight_grad_share, update_ratio, input_grad;
};

struct SiteRecord {
  std::string name, kind;
  int64_t height = 0, width = 0;
  double grad_ratio;
  std::vector<BranchRecord> branches;
};

SiteRecord read_site(const Fields& fields, bool align_corners);

// One site at several iterations.
struct SiteHistory {
  std::vector<double> iterations;
  std::vector<SiteRecord> records;
};

// What calibration.json says of a branch.
struct Calibrated {
  std::string site, branch;
  double mean, std;
  bool equalized, floored;
};

// Pictures and a table of the scales of a site, or of its gradients.
Markup scale_figures(const SiteHistory& site, const std::vector<Calibrated>& calibrated);
Markup gradient_figures(const SiteHistory& site);
// The charts alone, without those that have no value: at a site that adds, only what arrives at its branches.
std::vector<Markup> gradient_charts(const SiteHistory& site, const std::string& title_of_arriving);

// The standard deviations of one record's branches: as they arrive, after resizing, as fused, and what white noise would keep.
Markup scale_snapshot(const SiteRecord& site, const std::string& title, const std::string& caption);
Markup scale_table(const SiteRecord& site, const std::string& caption, const std::vector<Calibrated>& calibrated);
Markup gradient_table(const SiteRecord& site, const std::string& caption);

// "decode_head.fpn_fusion" as "fpn fusion (decode_head)", for headings.
std::string site_title(const SiteRecord& site);

}  // namespace eq::report
