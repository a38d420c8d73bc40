// How sure a mean IoU is over the pictures that it was measured on.
#include <cmath>

#include "core/random.h"
#include "study/comparison.h"
#include "study/statistics/over_pictures.h"
#include "support.h"

using namespace eq;
using namespace eq::test;
using Catch::Contains;

namespace {

// Pictures of a world in which a share of each class's pixels is found, differently in each picture. Class 2 is in a third of them.
PictureCounts pictures(size_t count, uint64_t seed, double skill = 0) {
  Random random(seed);
  PictureCounts all;
  for (size_t i = 0; i < count; ++i) {
    std::vector<ClassCounts>& picture = all.emplace_back();
    for (int64_t c = 0; c < 3; ++c) {
      const double found = std::clamp(0.7 - 0.1 * double(c) + skill + 0.1 * random.normal(), 0.0, 1.0);
      const bool there = c < 2 || random.uniform() < 1.0 / 3;
      const int64_t labelled = 1000 + random.uniform_int(0, 1000);
      if (there) picture.push_back({.index = c, .both = int64_t(found * double(labelled)), .labelled = labelled, .predicted = labelled});
    }
  }
  return all;
}

double miou_of(const PictureCounts& all, const std::vector<size_t>& drawn) {
  double total = 0;
  int64_t present = 0;
  for (int64_t c = 0; c < 3; ++c) {
    double both = 0, either = 0;
    for (const size_t i : drawn) {
      for (const ClassCounts& counts : all[i]) {
        if (counts.index == c) both += double(counts.both), either += double(counts.labelled + counts.predicted - counts.both);
      }
    }
    if (either > 0) total += both / either, ++present;
  }
  return total / double(present);
}

double miou_of(const PictureCounts& all) {
  std::vector<size_t> each(all.size());
  for (size_t i = 0; i < each.size(); ++i) each[i] = i;
  return miou_of(all, each);
}

EvalResult result_of(PictureCounts counts) {
  EvalResult result;
  result.counts = std::move(counts);
  result.pictures = int64_t(result.counts.size());
  result.metrics.miou = miou_of(result.counts);
  for (const char* name : {"sky", "road", "pole"}) result.metrics.classes.push_back({.name = name, .iou = 0.5});
  return result;
}

}  // namespace

TEST_CASE("the interval of a mean IoU is that of a plain resampling", "[statistics]") {
  const PictureCounts sample = pictures(40, 1);
  const Interval interval = *miou_interval(sample);
  Random random(99);  // other draws
  std::vector<double> values;
  for (int i = 0; i < 4000; ++i) {
    std::vector<size_t> drawn(sample.size());
    for (size_t& index : drawn) index = size_t(random.uniform_int(0, int64_t(sample.size())));
    values.push_back(miou_of(sample, drawn));
  }
  const Interval plain = percentile_interval(values, 0.95);
  const double width = plain[1] - plain[0];
  CHECK(width > 0.01);
  for (size_t end : {0u, 1u}) CHECK(interval[end] == Approx(plain[end]).margin(0.06 * width));
  CHECK(interval == *miou_interval(sample));
  CHECK(interval != *miou_interval(sample, 1));
  CHECK_FALSE(miou_interval(pictures(9, 1)).has_value());
  CHECK(miou_interval(pictures(10, 1)).has_value());
}

TEST_CASE("intervals over pictures cover what they are of", "[statistics]") {
  const double truth = miou_of(pictures(20'000, 7)), better = miou_of(pictures(20'000, 7, 0.01)) - truth;
  int covered = 0, paired = 0;
  constexpr int kWorlds = 200;
  double width = 0, paired_width = 0;
  for (int i = 0; i < kWorlds; ++i) {
    const uint64_t seed = 1000 + uint64_t(i);
    const PictureCounts sample = pictures(60, seed), arm = pictures(60, seed, 0.01);
    const Interval alone = *miou_interval(sample), difference = *miou_difference_interval(sample, arm);
    covered += alone[0] <= truth && truth <= alone[1];
    paired += difference[0] <= better && better <= difference[1];
    width += alone[1] - alone[0];
    paired_width += difference[1] - difference[0];
  }
  CHECK(covered >= 180);  // of 200; 190 are meant
  CHECK(covered <= 198);
  CHECK(paired >= 178);
  CHECK(paired_width < width / 5);  // what is hard about a picture for both does not count
}

TEST_CASE("a class that no drawn picture has is left out of their mean", "[statistics]") {
  PictureCounts sample(12, {{.index = 0, .both = 50, .labelled = 100, .predicted = 50}});
  sample[3].push_back({.index = 4, .both = 0, .labelled = 10, .predicted = 0});  // drawn in 65 % of cases
  const Interval interval = *miou_interval(sample);
  CHECK(interval[0] == Approx(0.25));
  CHECK(interval[1] == Approx(0.5));
}

TEST_CASE("pictures without a labelled pixel change no interval, and are no pictures to judge by", "[statistics]") {
  const PictureCounts sample = pictures(20, 1), arm = pictures(20, 1, 0.05);
  PictureCounts with_blanks = sample, arm_with_blanks = arm;
  for (const size_t at : {0u, 7u, 22u}) {
    with_blanks.insert(with_blanks.begin() + std::ptrdiff_t(at), {std::vector<ClassCounts>()});
    arm_with_blanks.insert(arm_with_blanks.begin() + std::ptrdiff_t(at), {std::vector<ClassCounts>()});
  }
  CHECK(*miou_interval(with_blanks) == *miou_interval(sample));
  CHECK(*miou_difference_interval(with_blanks, arm_with_blanks) == *miou_difference_interval(sample, arm));
  PictureCounts nine = pictures(9, 1);
  nine.resize(40);
  CHECK_FALSE(miou_interval(nine).has_value());
  CHECK_FALSE(miou_interval(PictureCounts(40)).has_value());
}

TEST_CASE("two networks are compared picture by picture", "[statistics]") {
  const EvalResult one = result_of(pictures(40, 3)), better = result_of(pictures(40, 3, 0.05));
  const NetworkComparison same = compare_networks("a", one, "b", one);
  CHECK(same.difference == 0);
  CHECK(*same.interval == Interval{0, 0});
  CHECK_THAT(same.words, Contains("do not tell the two apart"));
  const NetworkComparison gain = compare_networks("a", better, "b", one), loss = compare_networks("b", one, "a", better);
  CHECK(gain.difference == Approx(better.metrics.miou - one.metrics.miou));
  CHECK((*gain.interval)[0] > 0);
  CHECK((*loss.interval)[0] == Approx(-(*gain.interval)[1]));
  CHECK_THAT(gain.words, Contains("above zero") && Contains("is better beyond chance") && Contains("a: +"));
  CHECK_THAT(loss.words, Contains("below zero") && Contains("is worse beyond chance"));
  const EvalResult few = result_of(pictures(5, 3));
  CHECK_THAT(compare_networks("a", few, "b", few).words, Contains("too few"));
  CHECK_THROWS_WITH(compare_networks("a", few, "b", one), Contains("cannot be paired with those of 5"));
  EvalResult others = one;
  others.metrics.classes.back().name = "fence";
  CHECK_THROWS_WITH(compare_networks("a", others, "b", one), Contains("other classes"));
}

TEST_CASE("each picture can be drawn, and a class that is predicted alone counts as missed", "[statistics]") {
  const ClassCounts found{.index = 0, .both = 100, .labelled = 100, .predicted = 100};
  PictureCounts sample(10, {found});
  sample.back() = {{.index = 0, .both = 0, .labelled = 100, .predicted = 0}};  // drawn in 65 % of cases
  CHECK((*miou_interval(sample))[0] < 0.95);
  const PictureCounts with_false_alarms(10, {found, {.index = 1, .predicted = 5}});
  CHECK(*miou_interval(with_false_alarms) == Interval{0.5, 0.5});
}

TEST_CASE("classes are compared where both networks have them, the most different first", "[statistics]") {
  EvalResult one = result_of(pictures(12, 3)), other = one;
  const auto classes = [](EvalResult& result, const std::vector<double>& ious) {
    result.metrics.classes.clear();
    for (size_t c = 0; c < ious.size(); ++c) result.metrics.classes.push_back({.name = std::string(1, char('a' + c)), .iou = ious[c]});
  };
  classes(one, {0.5, 0.7, 0.2, std::nan(""), 0.4, 0.3});
  classes(other, {0.5, 0.6, 0.5, 0.4, std::nan(""), 0.1});
  const NetworkComparison comparison = compare_networks("one", one, "other", other);
  std::vector<std::string> names;
  for (const auto& of_class : comparison.classes) names.push_back(of_class.name);
  CHECK(names == std::vector<std::string>{"c", "f", "b", "a"});
  CHECK(comparison.classes[0].difference == Approx(-0.3));
  CHECK_THAT(comparison.words, Contains("largest differences of IoU: c -30.00, f +20.00, b +10.00"));
  classes(other, {0.5, 0.7, 0.2, std::nan(""), 0.4, 0.3});
  CHECK_THAT(compare_networks("one", one, "other", other).words, !Contains("largest differences"));
}
