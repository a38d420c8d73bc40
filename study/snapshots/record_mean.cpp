#include "study/snapshots/record_mean.h"

#include <algorithm>
#include <cmath>

namespace eq {
namespace {

template <class Of>
double mean_over(size_t count, Of of) {
  double sum = 0;
  for (size_t i = 0; i < count; ++i) sum += of(i) / double(count);
  return sum;
}

template <class Of>
double root_mean_square(size_t count, Of of) {
  return std::sqrt(mean_over(count, [&](size_t i) { return of(i) * of(i); }));
}

BranchRecord::Scale together(const std::vector<const BranchRecord*>& branches, BranchRecord::Scale BranchRecord::*scale) {
  const size_t n = branches.size();
  const double mean = mean_over(n, [&](size_t i) { return (branches[i]->*scale).mean; });
  const double variance = mean_over(n, [&](size_t i) {
    const BranchRecord::Scale& s = branches[i]->*scale;
    return s.std * s.std + (s.mean - mean) * (s.mean - mean);
  });
  return {mean, std::sqrt(variance)};
}

BranchRecord branch_mean(const std::vector<const BranchRecord*>& branches) {
  const size_t n = branches.size();
  const auto mean = [&](double BranchRecord::*value) { return mean_over(n, [&](size_t i) { return branches[i]->*value; }); };
  const auto rms = [&](double BranchRecord::*value) { return root_mean_square(n, [&](size_t i) { return branches[i]->*value; }); };
  BranchRecord result = *branches[0];
  result.before = together(branches, &BranchRecord::before);
  result.resized = together(branches, &BranchRecord::resized);
  result.fused = together(branches, &BranchRecord::fused);
  result.within_image = mean(&BranchRecord::within_image);
  result.between_channels = mean(&BranchRecord::between_channels);
  result.between_images = result.resized.std * result.resized.std - result.within_image - result.between_channels;
  result.lag_one = mean(&BranchRecord::lag_one);
  result.white_noise_factor = mean(&BranchRecord::white_noise_factor);
  result.predicted_factor = mean(&BranchRecord::predicted_factor);
  result.measured_factor = mean(&BranchRecord::measured_factor);
  result.weight_grad = rms(&BranchRecord::weight_grad);
  result.weight_grad_rms = rms(&BranchRecord::weight_grad_rms);
  result.input_grad = rms(&BranchRecord::input_grad);
  result.update_ratio = kNotMeasured;
  return result;
}

}  // namespace

void RecordMean::add(const ProbeRecord& record) { records_.push_back(record); }

ProbeRecord RecordMean::result() const {
  if (records_.empty()) return {};
  ProbeRecord result = records_[0];
  for (size_t s = 0; s < result.sites.size(); ++s) {
    SiteRecord& site = result.sites[s];
    double total = 0, largest = 0, smallest = std::numeric_limits<double>::infinity();
    for (size_t b = 0; b < site.branches.size(); ++b) {
      std::vector<const BranchRecord*> branches;
      for (const ProbeRecord& record : records_) branches.push_back(&record.sites[s].branches[b]);
      site.branches[b] = branch_mean(branches);
      total += site.branches[b].weight_grad;
      largest = std::max(largest, site.branches[b].weight_grad_rms);
      smallest = std::min(smallest, site.branches[b].weight_grad_rms);
    }
    for (BranchRecord& branch : site.branches) branch.weight_grad_share = branch.weight_grad / total;
    site.grad_ratio = std::isfinite(total) && smallest > 0 ? largest / smallest : kNotMeasured;
  }
  return result;
}

}  // namespace eq
