// Distributions against values of SciPy 1.x; paired statistics against values computed by hand and by SciPy.
#include "study/statistics/distributions.h"

#include <cmath>
#include <limits>

#include "core/errors.h"
#include "study/statistics/paired.h"
#include "study/statistics/slope.h"
#include "support.h"

using namespace eq;
using Catch::Contains;

TEST_CASE("incomplete beta function", "[statistics]") {
  CHECK(incomplete_beta(0.5, 0.5, 0.3) == Approx(0.369010119565545).epsilon(1e-13));
  CHECK(incomplete_beta(2, 3, 0.4) == Approx(0.5248).epsilon(1e-13));
  CHECK(incomplete_beta(50, 0.5, 0.98) == Approx(0.156243507866818).epsilon(1e-12));
  CHECK(incomplete_beta(10, 80, 0.05) == Approx(0.0134942078713022).epsilon(1e-12));
  CHECK(incomplete_beta(1.5, 0.5, 0.999) == Approx(0.959743341884968).epsilon(1e-12));
  CHECK(incomplete_beta(3, 4, 0) == 0);
  CHECK(incomplete_beta(3, 4, 1) == 1);
  CHECK(incomplete_beta(7, 7, 0.5) == Approx(0.5).epsilon(1e-13));
  CHECK_THROWS_AS(incomplete_beta(0, 1, 0.5), UsageError);
  CHECK_THROWS_AS(incomplete_beta(1, 0, 0.5), UsageError);
  CHECK_THROWS_AS(incomplete_beta(1, 1, -0.5), UsageError);
  CHECK_THROWS_AS(incomplete_beta(1, 1, 1.5), UsageError);
}

TEST_CASE("quantiles of Student's t are those of the tables", "[statistics]") {
  struct Row {
    double degrees, at_90, at_975, at_995;
  };
  for (const Row& row :
       {Row{1, 3.07768353717525, 12.7062047361747, 63.6567411628715}, Row{2, 1.88561808316413, 4.30265272974946, 9.92484320091829},
        Row{3, 1.63774435369621, 3.18244630528371, 5.84090930973336}, Row{9, 1.38302873839663, 2.2621571627982, 3.24983554159213},
        Row{29, 1.31143364730155, 2.0452296421327, 2.7563859036706}, Row{4.5, 1.50088531750856, 2.6589123472044, 4.27282399301129},
        Row{1000, 1.28239872146092, 1.96233908082641, 2.58075469806595}}) {
    CAPTURE(row.degrees);
    CHECK(student_quantile(0.9, row.degrees) == Approx(row.at_90).epsilon(1e-11));
    CHECK(student_quantile(0.975, row.degrees) == Approx(row.at_975).epsilon(1e-11));
    CHECK(student_quantile(0.995, row.degrees) == Approx(row.at_995).epsilon(1e-11));
    CHECK(student_quantile(0.025, row.degrees) == Approx(-row.at_975).epsilon(1e-11));
  }
  CHECK(student_upper_tail(4, 7) == Approx(0.00259495667464841).epsilon(1e-11));
  CHECK(student_upper_tail(10, 3) == Approx(0.00106419952920708).epsilon(1e-11));
  CHECK(student_upper_tail(-0.3, 5) == Approx(1 - 0.388124521131637).epsilon(1e-12));
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(student_upper_tail(infinity, 3) == 0);
  CHECK(student_upper_tail(-infinity, 3) == 1);
  for (const double none : {0.0, 1.0, -0.5, 1.5, std::nan("")}) {
    CHECK_THROWS_AS(student_quantile(none, 3), UsageError);
    CHECK_THROWS_AS(normal_quantile(none), UsageError);
  }
}

TEST_CASE("normal quantiles and scores", "[statistics]") {
  CHECK(normal_quantile(0.8) == Approx(0.841621233572914).epsilon(1e-12));
  CHECK(normal_quantile(0.975) == Approx(1.95996398454005).epsilon(1e-12));
  CHECK(normal_quantile(1e-10) == Approx(-6.36134090240406).epsilon(1e-12));
  CHECK(normal_score(4, 7) == Approx(2.79500362346934).epsilon(1e-11));
  CHECK(normal_score(-4, 31) == Approx(-3.56395755330982).epsilon(1e-11));
  CHECK(normal_score(2.5, 3) == Approx(1.70762122735482).epsilon(1e-11));
  CHECK(normal_score(1e9, 50) > 30);
}

TEST_CASE("exact sign test", "[statistics]") {
  CHECK(sign_test(9, 1) == Approx(0.021484375).epsilon(1e-12));
  CHECK(sign_test(0, 3) == Approx(0.25).epsilon(1e-12));
  CHECK(sign_test(5, 3) == Approx(0.7265625).epsilon(1e-12));
  CHECK(sign_test(60, 40) == Approx(0.05688793364098089).epsilon(1e-10));
  CHECK(sign_test(0, 0) == 1);
  CHECK(sign_test(4, 4) == 1);
}

TEST_CASE("paired differences: interval, words and seeds needed", "[statistics]") {
  const Metric miou{"miou", "mIoU", 100, 2, " points", true, 0.002};
  const std::vector<double> off = {0.60, 0.61, 0.59, 0.62, 0.605}, on = {0.612, 0.607, 0.597, 0.624, 0.62};
  const PairedComparison c = compare_paired("off", off, "on", on, miou);
  CHECK(c.mean == Approx(0.007).epsilon(1e-12));
  CHECK(c.std == Approx(0.007035623639735144).epsilon(1e-10));
  REQUIRE(c.t_interval);
  CHECK((*c.t_interval)[0] == Approx(-0.0017358805783704578).epsilon(1e-8));
  CHECK((*c.t_interval)[1] == Approx(0.01573588057837046).epsilon(1e-9));
  CHECK(c.wins == 4);
  CHECK(c.losses == 1);
  CHECK(c.sign_test_p == Approx(0.375));
  CHECK_THAT(c.words, Contains("covers zero") && Contains("+0.70 points") && Contains("5 seeds") && Contains("0.2 points"));
  REQUIRE(c.seeds_to_settle);
  CHECK(*c.seeds_to_settle == pairs_needed(c.std, 0.002));

  // All differences on one side, and small against their mean.
  const PairedComparison sure = compare_paired("off", {0.5, 0.6, 0.7}, "on", {0.51, 0.611, 0.709}, miou);
  CHECK(sure.words ==
        "on: +1.00 points of mIoU against off (95 % interval +0.75 to +1.25, 3 seeds). The interval lies above zero: on is better than off "
        "beyond chance, on this data and schedule. With this spread 5 seeds would settle a difference of 0.2 points.");
  const Metric loss{"loss_tail", "training loss", 1, 4, "", false, 0};
  const PairedComparison lower = compare_paired("off", {0.5, 0.6, 0.7}, "on", {0.49, 0.589, 0.691}, loss);
  CHECK_THAT(lower.words, Contains("below zero") && Contains("on is better than off") && !Contains("would settle"));
  const PairedComparison worse = compare_paired("off", {0.51, 0.611, 0.709}, "on", {0.5, 0.6, 0.7}, miou);
  CHECK_THAT(worse.words, Contains("below zero") && Contains("on is worse than off"));
  CHECK(lower.wins == 3);
  CHECK_FALSE(lower.seeds_to_settle);
}

TEST_CASE("p values, and what several comparisons at once make of them", "[statistics]") {
  CHECK(*t_test_p({1, 2, 3, 6}) == Approx(0.06913686926442872).epsilon(1e-9));  // scipy.stats.ttest_1samp
  CHECK(*t_test_p({-1, -2, -3, -6}) == Approx(0.06913686926442872).epsilon(1e-9));
  CHECK(*t_test_p({-1, 1}) == Approx(1));
  for (const auto& values : {std::vector<double>{}, {1}, {2, 2, 2}}) CHECK_FALSE(t_test_p(values));
  // Holm by hand: 3 x 0.01; 2 x 0.03; 0.04, which is not below the one before. None above 1.
  CHECK(holm({0.04, 0.01, 0.03})[0] == Approx(0.06));
  CHECK(holm({0.04, 0.01, 0.03})[1] == Approx(0.03));
  CHECK(holm({0.04, 0.01, 0.03})[2] == Approx(0.06));
  CHECK(holm({0.9, 0.8}) == std::vector<double>{1, 1});
  CHECK(holm({}).empty());

  const Metric miou{"miou", "mIoU", 100, 2, " points", true, 0.002};
  const std::vector<double> off(3, 0.5);
  PairedComparison sure = compare_paired("off", off, "sure", {0.5101, 0.5102, 0.5103}, miou);
  PairedComparison hardly = compare_paired("off", off, "hardly", {0.506, 0.510, 0.514}, miou);  // p = 0.0493
  PairedComparison lost = compare_paired("off", off, "lost", {0.49, 0.51, 0.5}, miou);
  PairedComparison one = compare_paired("off", {0.5}, "one", {0.6}, miou);
  const std::string sure_words = sure.words, lost_words = lost.words;
  CHECK_THAT(hardly.words, Contains("beyond chance"));
  correct_for_many({&sure, &hardly, &lost, &one});
  CHECK(*sure.holm_p == Approx(3 * *sure.t_test_p));
  CHECK(*hardly.holm_p == Approx(2 * *hardly.t_test_p));
  CHECK(*lost.holm_p == *lost.t_test_p);
  CHECK_FALSE(one.holm_p);
  CHECK_THAT(hardly.words, Contains("As one of 3 comparisons it may be chance: p 0.049, after Holm's correction 0.099."));
  CHECK(sure.words == sure_words);
  CHECK(lost.words == lost_words);
}

TEST_CASE("factors in pairs: a geometric mean, and an interval on logarithms", "[statistics]") {
  const Factor factor = paired_factor({2, 4, 0, 1, std::nan("")}, {1, 1, 1, 0, 1});  // the last three are no positive numbers
  CHECK(factor.factors == std::vector<double>{0.5, 0.25});
  CHECK(factor.mean == Approx(std::sqrt(0.125)));
  // Half of the logarithms' difference is the standard error of their mean; t of one degree is 12.7062.
  REQUIRE(factor.interval);
  CHECK((*factor.interval)[1] == Approx(std::sqrt(0.125) * std::exp(12.7062047 * std::log(2) / 2)));
  CHECK((*factor.interval)[0] == Approx(std::sqrt(0.125) / std::exp(12.7062047 * std::log(2) / 2)));
  CHECK(words_of(paired_factor({2}, {1})) == "0.500, 1 seed");
  CHECK(words_of(paired_factor({2, 1, 2}, {2, 1, 2})) == "1.000 (1.000 to 1.000), 3 seeds");
  CHECK(std::isnan(paired_factor({}, {}).mean));
}

TEST_CASE("few pairs say little, and say so", "[statistics]") {
  const Metric miou{"miou", "mIoU", 100, 2, " points", true, 0.002};
  const PairedComparison one = compare_paired("off", {0.5}, "on", {0.6}, miou);
  CHECK_FALSE(one.t_interval);
  CHECK_FALSE(one.bootstrap_interval);
  CHECK_THAT(one.words, Contains("one seed") && Contains("chance"));
  CHECK(std::isnan(one.std));
  const PairedComparison none = compare_paired("off", {}, "on", {}, miou);
  CHECK_THAT(none.words, Contains("no finished seed"));
  CHECK(std::isnan(none.mean));  // 0 would be a finding
  CHECK(std::isnan(none.std));
  // An absent value leaves its pair out; equal values are ties.
  const double absent = std::numeric_limits<double>::quiet_NaN();
  const PairedComparison c = compare_paired("off", {0.5, 0.6, absent}, "on", {0.5, 0.7, 0.9}, miou);
  CHECK(c.differences.size() == 2);
  CHECK(c.ties == 1);
  CHECK(c.wins == 1);
  const PairedComparison equal = compare_paired("off", {0.5, 0.6}, "on", {0.5, 0.6}, miou);
  CHECK_FALSE(equal.seeds_to_settle);
  CHECK_THAT(equal.words, Contains("did not differ"));
  CHECK_THAT(compare_paired("off", {0.25, 0.5}, "on", {0.75, 1}, miou).words, !Contains("did not differ"));  // by as much each time
  CHECK_THAT(compare_paired("off", {0.25, 0.5}, "on", {0.5, 0.25}, miou).words, !Contains("did not differ"));  // on average
  CHECK(mean_of({}) == 0);
  CHECK(sample_deviation({3}) == 0);
  CHECK(sample_deviation({1, 3}) == Approx(std::sqrt(2.0)));
  CHECK_THROWS_AS(compare_paired("off", {0.5}, "on", {}, miou), UsageError);
}

TEST_CASE("the bootstrap interval is reproducible, and right where it can be computed", "[statistics]") {
  // Means of two values drawn from {0, 1}: 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4.
  CHECK(*bootstrap_interval({0, 1}, 3) == Interval{0, 1});
  CHECK(*bootstrap_interval({0, 1}, 3, 0.4) == Interval{0.5, 0.5});
  CHECK(*bootstrap_interval({2, 2, 2}, 3) == Interval{2, 2});
  // The quartiles of two means lie a quarter of the way between them.
  const auto [low, high] = *bootstrap_interval({0, 1, 5}, 4, 1, 2);
  CHECK(low < high);
  const auto [first, third] = *bootstrap_interval({0, 1, 5}, 4, 0.5, 2);
  CHECK(first == Approx(low + (high - low) / 4));
  CHECK(third == Approx(high - (high - low) / 4));
  std::vector<double> values;
  for (int i = 0; i < 400; ++i) values.push_back(std::sin(double(i) * 12.9898));
  const Interval interval = *bootstrap_interval(values, 1), normal = *t_interval(values);
  CHECK(interval == *bootstrap_interval(values, 1));
  CHECK(interval != *bootstrap_interval(values, 2));
  CHECK(interval[0] == Approx(normal[0]).margin(0.01));  // many values: the two agree
  CHECK(interval[1] == Approx(normal[1]).margin(0.01));
}

TEST_CASE("few pairs are not resampled", "[statistics]") {
  const Metric miou{"miou", "mIoU", 100, 2, " points", true, 0.002};
  std::vector<double> off, on;
  for (int i = 0; i < 10; ++i) {
    off.push_back(0.5);
    on.push_back(0.5 + 0.01 * std::sin(double(i)));
    CHECK(compare_paired("off", off, "on", on, miou).bootstrap_interval.has_value() == (i == 9));
  }
}

TEST_CASE("means of several studies: variances add up", "[statistics]") {
  const std::vector<double> a{1, 2, 3, 6}, b{10, 11, 15};
  CHECK(pooled_mean({a})->mean == 3);
  CHECK(pooled_mean({a})->interval[0] == Approx((*t_interval(a))[0]).epsilon(1e-12));
  const auto both = pooled_mean({a, b});
  CHECK(both->mean == Approx(7.5));
  // By hand: variances of the means 14/3 / 4 and 7 / 3; degrees (7/6 + 7/3)^2 / ((7/6)^2 / 3 + (7/3)^2 / 2).
  const double variance = 7 / 6.0 + 7 / 3.0, degrees = variance * variance / (49 / 36.0 / 3 + 49 / 9.0 / 2);
  CHECK(both->interval[1] - both->mean == Approx(student_quantile(0.975, degrees) * std::sqrt(variance) / 2));
  CHECK(both->mean - both->interval[0] == Approx(both->interval[1] - both->mean));
  CHECK_FALSE(pooled_mean({}));
  CHECK_FALSE(pooled_mean({a, {1}}));
  CHECK(pooled_mean({{1, 1}, {2, 2}})->interval == Interval{1.5, 1.5});
}

TEST_CASE("the slope of groups is within them, and its interval is wide where one group decides", "[statistics]") {
  // y = 2 x + a constant of the group.
  const std::vector<PointGroup> exact{{{0, 1}, {5, 7}}, {{3, 4, 6}, {-1, 1, 5}}, {{2, 2.5}, {0, 1}}};
  const auto slope = common_slope(exact);
  CHECK(slope->value == Approx(2));
  CHECK((*slope->interval)[0] == Approx(2));
  CHECK((*slope->interval)[1] == Approx(2));
  CHECK_FALSE(common_slope({exact[0], exact[1]})->interval);
  CHECK_FALSE(common_slope({{{1, 1}, {2, 3}}, {{}, {}}}));
  // The jackknife by hand: slopes 1, 1 and -3 of sums of squares 1/2, 1/2 and 2, so -2.2; without one of them -17/5 .. 1.
  const std::vector<PointGroup> mixed{{{0, 1}, {0, 1}}, {{0, 1}, {3, 4}}, {{0, 2}, {6, 0}}};
  const double value = (0.5 + 0.5 - 6) / 3.0;
  const double without[] = {(0.5 - 6) / 2.5, (0.5 - 6) / 2.5, 1};
  double squares = 0;
  for (const double w : without) squares += (w - value) * (w - value);
  const auto jackknife = common_slope(mixed);
  CHECK(jackknife->value == Approx(value));
  CHECK((*jackknife->interval)[1] - value == Approx(student_quantile(0.975, 2) * std::sqrt(2 / 3.0 * squares)));
  CHECK((*jackknife->interval)[1] > 1);
}

TEST_CASE("pairs needed to find a difference", "[statistics]") {
  CHECK(pairs_needed(0, 1) == 2);
  CHECK(pairs_needed(0.5, 1) == 5);
  CHECK(pairs_needed(1, 1) == 10);
  CHECK(pairs_needed(2, 1) == 34);
  CHECK(pairs_needed(5, 1) == 199);
  CHECK(pairs_needed(20, 1) == 3142);
  CHECK(pairs_needed(1e12, 1) > 1'000'000'000);
  CHECK_THROWS_AS(pairs_needed(1, 0), UsageError);
}

TEST_CASE("scores stay finite far out, and what is no number is left out or stays so", "[statistics]") {
  CHECK(normal_score(1e200, 100) == Approx(37.5).margin(0.1));
  CHECK(normal_score(-1e200, 100) == -normal_score(1e200, 100));
  CHECK(std::isnan(normal_score(std::nan(""), 5)));
  const PointGroup line{{0, 1}, {0, 2}}, broken{{0, 1}, {0, HUGE_VAL}};
  CHECK(common_slope({line, broken})->value == 2);
  CHECK_FALSE(common_slope({broken}).has_value());
}
