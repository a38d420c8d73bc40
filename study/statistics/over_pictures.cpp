#include "study/statistics/over_pictures.h"

#include <algorithm>

#include "core/errors.h"
#include "core/random.h"

namespace eq {
namespace {

constexpr uint64_t kPicturesStream = 0x50494354;  // "PICT"
constexpr int64_t kResamples = 2000;              // the ends of a 95 % interval then move by a few hundredths of its width

int64_t classes_of(const PictureCounts& pictures) {
  int64_t classes = 0;
  for (const auto& picture : pictures) {
    for (const ClassCounts& counts : picture) classes = std::max(classes, counts.index + 1);
  }
  return classes;
}

// Of the pictures with these indices.
double miou_of(const PictureCounts& pictures, const std::vector<size_t>& drawn, std::vector<ClassCounts>& sums) {
  std::fill(sums.begin(), sums.end(), ClassCounts{});
  for (const size_t index : drawn) {
    for (const ClassCounts& counts : pictures[index]) {
      ClassCounts& sum = sums[size_t(counts.index)];
      sum.both += counts.both;
      sum.labelled += counts.labelled;
      sum.predicted += counts.predicted;
    }
  }
  double total = 0;
  int64_t present = 0;
  for (const ClassCounts& sum : sums) {
    const int64_t either = sum.labelled + sum.predicted - sum.both;
    if (either > 0) total += double(sum.both) / double(either), ++present;
  }
  return present > 0 ? total / double(present) : 0;
}

}  // namespace

std::optional<Interval> miou_interval(const PictureCounts& pictures, uint64_t seed) {
  return miou_difference_interval(PictureCounts(pictures.size()), pictures, seed);
}

std::optional<Interval> miou_difference_interval(const PictureCounts& baseline, const PictureCounts& arm, uint64_t seed) {
  if (baseline.size() != arm.size()) {
    throw UsageError(
        "counts of " + std::to_string(baseline.size()) + " pictures cannot be paired with those of " + std::to_string(arm.size()),
        "miou_difference_interval", "evaluate both on the same pictures");
  }
  std::vector<size_t> labelled;
  for (size_t i = 0; i < arm.size(); ++i) {
    if (!arm[i].empty() || !baseline[i].empty()) labelled.push_back(i);
  }
  if (labelled.size() < kFewestToResample) return std::nullopt;
  Random random(seed, kPicturesStream);
  std::vector<ClassCounts> sums(size_t(std::max(classes_of(baseline), classes_of(arm))));
  std::vector<size_t> drawn(labelled.size());
  std::vector<double> differences;
  for (int64_t i = 0; i < kResamples; ++i) {
    for (size_t& index : drawn) index = labelled[size_t(random.uniform_int(0, int64_t(labelled.size())))];
    differences.push_back(miou_of(arm, drawn, sums) - miou_of(baseline, drawn, sums));
  }
  return percentile_interval(std::move(differences), 0.95);
}

}  // namespace eq
