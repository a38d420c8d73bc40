#pragma once
// What paired results say: the same seeds under two treatments, one difference a seed.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace eq {

using Interval = std::array<double, 2>;  // low, high

// Of fewer values than these no resampling makes an interval.
inline constexpr size_t kFewestToResample = 10;

double mean_of(const std::vector<double>& values);
double sample_deviation(const std::vector<double>& values);  // with n - 1; 0 for fewer than two values

// The 95 % interval of the mean by Student's t; none for fewer than two values.
std::optional<Interval> t_interval(const std::vector<double>& values, double level = 0.95);

// From the values below which a share (1 - level)/2 of all lies, and above which as many do; by linear interpolation between them.
Interval percentile_interval(std::vector<double> values, double level);

// The 95 % percentile interval of the mean under resampling of the values (Efron 1979), a function of the values and
// `seed` alone. None for fewer than two values. With few it is too narrow: of 3, 5, 10 and 18 normal values it covers the mean in 75, 83, 90 and
// 93 % of cases.
std::optional<Interval> bootstrap_interval(const std::vector<double>& values, uint64_t seed, double level = 0.95,
                                           int64_t resamples = 10'000);

// The smallest n >= 2 at which a true difference `difference` of pairs with this deviation is found with probability
// `power` by a two-sided t test of size `size`: sqrt(n) difference/deviation >= t(1 - size/2; n-1) + t(power; n-1).
int64_t pairs_needed(double deviation, double difference, double power = 0.8, double size = 0.05);

// The two-sided p value of Student's t test that the mean of the values is 0. None for fewer than two values, nor for equal ones, which
// have no spread to judge by.
std::optional<double> t_test_p(const std::vector<double>& values);

// p values of several comparisons made at once, each raised so that calling those up to 0.05 real is wrong about any of them in 5 % of
// cases at most, whatever they have to do with each other (Holm 1979).
std::vector<double> holm(const std::vector<double>& p_values);

// How many times as large a positive number is under one treatment as under another, in pairs.
struct Factor {
  std::vector<double> factors;       // after / before, one a pair whose quotient is a positive number
  double mean = 0;                   // geometric; NaN of no pair
  std::optional<Interval> interval;  // 95 %, Student's t on logarithms; none for one pair
};
Factor paired_factor(const std::vector<double>& before, const std::vector<double>& after);
std::string words_of(const Factor& factor);  // "0.840 (0.781 to 0.904), 4 seeds"

// The mean over several studies of the mean of each study's values, with its 95 % interval: variances add up, and degrees of freedom are
// Welch's and Satterthwaite's. Of one study it is t_interval. None unless each has two values.
struct PooledMean {
  double mean = 0;
  Interval interval{};
};
std::optional<PooledMean> pooled_mean(const std::vector<std::vector<double>>& studies, double level = 0.95);

// How a metric is spoken of.
struct Metric {
  std::string name;           // "miou"
  std::string title;          // "mIoU"
  double scale = 1;           // shown = value * scale, with `digits` behind the point
  int digits = 4;
  std::string unit;           // " points"
  bool higher_is_better = true;
  double worth_settling = 0;  // a difference in the value's own unit; 0: none
};

struct PairedComparison {
  std::string baseline, arm, metric;
  std::vector<double> differences;  // arm - baseline, one a seed
  double mean = 0, std = 0;                                 // NaN: of no pair; std: of one
  std::optional<Interval> t_interval, bootstrap_interval;  // the second from ten pairs on
  std::optional<double> t_test_p, holm_p;                  // the second by correct_for_many
  double sign_test_p = 1;
  int64_t wins = 0, losses = 0, ties = 0;  // of the arm: better, worse, the same
  std::optional<int64_t> seeds_to_settle;  // metric.worth_settling; none where all differences are equal
  std::string words;
};

// `baseline_values[i]` and `arm_values[i]` are of one seed; pairs with a value that is not finite are left out.
PairedComparison compare_paired(const std::string& baseline, const std::vector<double>& baseline_values, const std::string& arm,
                                const std::vector<double>& arm_values, const Metric& metric, uint64_t seed = 0);

// Sets holm_p of comparisons of one metric, and adds to the words of those that it makes less sure.
void correct_for_many(const std::vector<PairedComparison*>& comparisons);

}  // namespace eq
