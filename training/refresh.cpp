#include "training/refresh.h"

#include <algorithm>
#include <cmath>

namespace eq {

bool farther_from_one(double a, double b) { return std::abs(std::log(a)) > std::abs(std::log(b)); }

CalibrationReport refresh_equalizers(Module& model, Optimizer& optimizer, Ema* ema, const std::function<void(int64_t)>& run_forward) {
  NewConstants measured = measure_again(model, run_forward);
  if (ema != nullptr) {
    const EmaScope averaged(ema);
    for (const NewConstants::Site& of : measured.sites) of.site->refresh(of.constants);
  }
  auto row = measured.report.branches.begin();
  for (const NewConstants::Site& of : measured.sites) {
    const std::vector<double> growth = of.site->refresh(of.constants);
    const Conv2d& conv = *of.site->fusion().conv;
    optimizer.rescale_state(conv.weight(), conv.options().groups, growth);
    for (const FusionSite::Branch& branch : of.site->branches()) {
      for (int64_t c = branch.first_channel; c < branch.first_channel + branch.channels; ++c) {
        if (farther_from_one(growth[size_t(c)], row->growth)) row->growth = growth[size_t(c)];
      }
      ++row;
    }
  }
  return std::move(measured.report);
}

const CalibrationReport::Branch* farthest(const CalibrationReport& report) {
  const CalibrationReport::Branch* result = nullptr;
  for (const CalibrationReport::Branch& branch : report.branches) {
    if (branch.equalized && (result == nullptr || farther_from_one(branch.growth, result->growth))) result = &branch;
  }
  return result;
}

}  // namespace eq
