#include "study/comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/errors.h"
#include "core/words.h"
#include "study/statistics/over_pictures.h"

namespace eq {
namespace {

constexpr size_t kClassesInWords = 3;

std::string points(double value) { return fmt::format("{:+.2f}", 100 * value); }

std::string words_of(const NetworkComparison& c, const std::string& name, const std::string& other, int64_t pictures) {
  std::string text =
      fmt::format("{}: {} points of mIoU against {} on the same {}", name, points(c.difference), other, counted(pictures, "picture"));
  if (!c.interval) return text + ", which are too few to say how sure that is.";
  const auto [low, high] = *c.interval;
  text += fmt::format(" (95 % interval {} to {}). ", points(low), points(high));
  if (low <= 0 && high >= 0) {
    text += "The interval covers zero: these pictures do not tell the two apart.";
  } else {
    text += fmt::format("The interval lies {} zero: on pictures like these the first is {} beyond chance.", low > 0 ? "above" : "below",
                        low > 0 ? "better" : "worse");
  }
  return text + "\nThis is about two networks as they are; how seeds would change them, study run asks.";
}

}  // namespace

NetworkComparison compare_networks(const std::string& name, const EvalResult& network, const std::string& other_name,
                                   const EvalResult& other) {
  const auto &own = network.metrics.classes, &others = other.metrics.classes;
  const bool alike = std::equal(own.begin(), own.end(), others.begin(), others.end(),
                                [](const ClassMetrics& a, const ClassMetrics& b) { return a.name == b.name; });
  if (!alike) throw UsageError("the two networks tell other classes apart", "compare_networks", "compare networks of the same classes");
  NetworkComparison result{.difference = network.metrics.miou - other.metrics.miou,
                           .interval = miou_difference_interval(other.counts, network.counts),
                           .classes = {},
                           .words = {}};
  for (size_t c = 0; c < own.size(); ++c) {
    if (!own[c].absent() && !others[c].absent()) result.classes.push_back({own[c].name, own[c].iou - others[c].iou});
  }
  std::stable_sort(result.classes.begin(), result.classes.end(),
                   [](const auto& a, const auto& b) { return std::abs(a.difference) > std::abs(b.difference); });
  result.words = words_of(result, name, other_name, network.pictures);
  std::vector<std::string> largest;
  for (const auto& of_class : result.classes) {
    if (largest.size() < kClassesInWords && of_class.difference != 0) largest.push_back(of_class.name + " " + points(of_class.difference));
  }
  if (!largest.empty()) result.words += "\nlargest differences of IoU: " + joined(largest);
  return result;
}

}  // namespace eq
