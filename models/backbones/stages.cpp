#include "models/backbones/stages.h"

#include <cmath>
#include <numeric>
#include <sstream>

#include "core/nearest.h"

namespace eq {

StagePlan plan_stages(std::span<const StageVariant> variants, const BackboneOptions& options) {
  const StageVariant& variant =
      options.variant.empty() ? variants.front() : find_named(variants, options.variant, options.type, "model.backbone.variant");
  const int64_t first = std::llround(double(variant.channels) * options.multiplier);
  if (first < variant.heads || first % variant.heads != 0) {
    const int64_t heads = variant.heads, fitting = std::max<int64_t>(1, std::llround(double(first) / double(heads))) * heads;
    std::ostringstream nearest;
    nearest << double(fitting) / double(variant.channels);
    throw UsageError("the multiplier leaves the first stage " + std::to_string(first) + " channels", "model.backbone.multiplier",
                     "the product with " + std::to_string(variant.channels) + " must be a positive multiple of " + std::to_string(heads) +
                         ": try " + nearest.str());
  }
  StagePlan plan{.blocks = variant.blocks};
  const int last = std::accumulate(plan.blocks.begin(), plan.blocks.end(), 0) - 1;
  int block = 0;
  for (int stage = 0; stage < 4; ++stage) {
    plan.channels.push_back(first * variant.widths[stage]);
    plan.heads.push_back(variant.heads * variant.widths[stage]);
    for (int i = 0; i < plan.blocks[stage]; ++i) plan.drop_path[stage].push_back(options.drop_path * block++ / last);
  }
  return plan;
}

}  // namespace eq
