#include "study/statistics/paired.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/errors.h"
#include "core/random.h"
#include "core/words.h"
#include "study/statistics/distributions.h"

namespace eq {
namespace {

constexpr uint64_t kBootstrapStream = 0x424F4F54;  // "BOOT"
constexpr double kTestSize = 0.05;                // what goes with intervals of 95 %

// The value below which a share p of the sorted values lies, by linear interpolation.
double sorted_quantile(const std::vector<double>& sorted, double p) {
  const double place = p * double(sorted.size() - 1);
  const size_t below = size_t(place), above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - double(below)) * (sorted[above] - sorted[below]);
}

std::string verdict_words(const PairedComparison& c, const Metric& metric) {
  const auto [low, high] = *c.t_interval;
  if (low <= 0 && high >= 0) return "The interval covers zero: these seeds do not tell the two apart.";
  const bool better = (low > 0) == metric.higher_is_better;
  return fmt::format("The interval lies {} zero: {} is {} than {} beyond chance, on this data and schedule.", low > 0 ? "above" : "below",
                     c.arm, better ? "better" : "worse", c.baseline);
}

std::string words_of(const PairedComparison& c, const Metric& metric) {
  const auto shown = [&](double value) { return fmt::format("{:+.{}f}", value * metric.scale, metric.digits); };
  if (c.differences.empty()) return fmt::format("{} and {} have no finished seed in common.", c.arm, c.baseline);
  std::string text = fmt::format("{}: {}{} of {} against {}", c.arm, shown(c.mean), metric.unit, metric.title, c.baseline);
  if (!c.t_interval) return text + ", one seed: a difference this size may be chance.";
  if (c.std == 0 && c.mean == 0) return text + fmt::format(", in each of {} seeds: the two did not differ at all.", c.differences.size());
  text += fmt::format(" (95 % interval {} to {}, {} seeds). {}", shown((*c.t_interval)[0]), shown((*c.t_interval)[1]), c.differences.size(),
                      verdict_words(c, metric));
  if (c.seeds_to_settle) {
    text += fmt::format(" With this spread {} seeds would settle a difference of {:g}{}.", *c.seeds_to_settle,
                        metric.worth_settling * metric.scale, metric.unit);
  }
  return text;
}

}  // namespace

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? 0 : sum / double(values.size());
}

double sample_deviation(const std::vector<double>& values) {
  if (values.size() < 2) return 0;
  const double mean = mean_of(values);
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return std::sqrt(squares / double(values.size() - 1));
}

std::optional<Interval> t_interval(const std::vector<double>& values, double level) {
  if (values.size() < 2) return std::nullopt;
  const double count = double(values.size()), mean = mean_of(values);
  const double half = student_quantile((1 + level) / 2, count - 1) * sample_deviation(values) / std::sqrt(count);
  return Interval{mean - half, mean + half};
}

std::optional<double> t_test_p(const std::vector<double>& values) {
  const double deviation = sample_deviation(values), count = double(values.size());
  if (!(deviation > 0)) return std::nullopt;
  return 2 * student_upper_tail(std::abs(mean_of(values)) * std::sqrt(count) / deviation, count - 1);
}

std::vector<double> holm(const std::vector<double>& p_values) {
  std::vector<size_t> order(p_values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p_values[a] < p_values[b]; });
  std::vector<double> raised(p_values.size());
  double last = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    last = std::max(last, std::min(1.0, p_values[order[i]] * double(order.size() - i)));
    raised[order[i]] = last;
  }
  return raised;
}

Factor paired_factor(const std::vector<double>& before, const std::vector<double>& after) {
  Factor result;
  std::vector<double> logs;
  for (size_t i = 0; i < std::min(before.size(), after.size()); ++i) {
    const double factor = after[i] / before[i];
    if (!std::isfinite(factor) || !(factor > 0)) continue;
    result.factors.push_back(factor);
    logs.push_back(std::log(factor));
  }
  result.mean = logs.empty() ? std::numeric_limits<double>::quiet_NaN() : std::exp(mean_of(logs));
  if (const auto interval = t_interval(logs)) result.interval = Interval{std::exp((*interval)[0]), std::exp((*interval)[1])};
  return result;
}

std::string words_of(const Factor& factor) {
  const std::string sure = factor.interval ? fmt::format(" ({:.3f} to {:.3f})", (*factor.interval)[0], (*factor.interval)[1]) : "";
  return fmt::format("{:.3f}{}, {}", factor.mean, sure, counted(int64_t(factor.factors.size()), "seed"));
}

std::optional<PooledMean> pooled_mean(const std::vector<std::vector<double>>& studies, double level) {
  double mean = 0, variance = 0, spread = 0;
  for (const std::vector<double>& values : studies) {
    if (values.size() < 2) return std::nullopt;
    const double count = double(values.size()), deviation = sample_deviation(values), own = deviation * deviation / count;
    mean += mean_of(values) / double(studies.size());
    variance += own;
    spread += own * own / (count - 1);
  }
  if (studies.empty()) return std::nullopt;
  const double half = variance > 0 ? student_quantile((1 + level) / 2, variance * variance / spread) * std::sqrt(variance) / double(studies.size()) : 0;
  return PooledMean{mean, {mean - half, mean + half}};
}

Interval percentile_interval(std::vector<double> values, double level) {
  std::sort(values.begin(), values.end());
  return {sorted_quantile(values, (1 - level) / 2), sorted_quantile(values, (1 + level) / 2)};
}

std::optional<Interval> bootstrap_interval(const std::vector<double>& values, uint64_t seed, double level, int64_t resamples) {
  if (values.size() < 2) return std::nullopt;
  Random random(seed, kBootstrapStream);
  std::vector<double> means(size_t(resamples), 0.0);
  for (double& mean : means) {
    double sum = 0;
    for (size_t i = 0; i < values.size(); ++i) sum += values[size_t(random.uniform_int(0, int64_t(values.size())))];
    mean = sum / double(values.size());
  }
  return percentile_interval(std::move(means), level);
}

int64_t pairs_needed(double deviation, double difference, double power, double size) {
  if (!(deviation >= 0 && difference > 0 && std::isfinite(deviation / difference))) {
    throw UsageError("a number of pairs needs a finite deviation and a difference above 0", "pairs_needed", "check the values");
  }
  const double ratio = deviation / difference;
  const double first = normal_quantile(1 - size / 2) + normal_quantile(power);
  if (first * ratio > 1e6) return int64_t{1} << 40;  // as good as never; the iteration below needs no such numbers
  for (int64_t n = std::max<int64_t>(2, int64_t(std::ceil(first * ratio * first * ratio)));; ++n) {
    const double degrees = double(n - 1);
    if (std::sqrt(double(n)) >= ratio * (student_quantile(1 - size / 2, degrees) + student_quantile(power, degrees))) return n;
  }
}

PairedComparison compare_paired(const std::string& baseline, const std::vector<double>& baseline_values, const std::string& arm,
                                const std::vector<double>& arm_values, const Metric& metric, uint64_t seed) {
  if (baseline_values.size() != arm_values.size()) {
    throw UsageError(
        fmt::format("{} values of {} cannot be paired with {} of {}", baseline_values.size(), baseline, arm_values.size(), arm),
        "compare_paired", "give one value a seed for each");
  }
  PairedComparison result;
  result.baseline = baseline;
  result.arm = arm;
  result.metric = metric.name;
  for (size_t i = 0; i < arm_values.size(); ++i) {
    const double difference = arm_values[i] - baseline_values[i];
    if (!std::isfinite(difference)) continue;
    result.differences.push_back(difference);
    const bool up = difference > 0;
    (difference == 0 ? result.ties : up == metric.higher_is_better ? result.wins : result.losses) += 1;
  }
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  result.mean = result.differences.empty() ? kNone : mean_of(result.differences);
  result.std = result.differences.size() < 2 ? kNone : sample_deviation(result.differences);
  result.t_interval = t_interval(result.differences);
  if (result.differences.size() >= kFewestToResample) result.bootstrap_interval = bootstrap_interval(result.differences, seed);
  result.t_test_p = t_test_p(result.differences);
  result.sign_test_p = sign_test(result.wins, result.losses);
  if (metric.worth_settling > 0 && result.std > 0) {
    result.seeds_to_settle = pairs_needed(result.std, metric.worth_settling);
  }
  result.words = words_of(result, metric);
  return result;
}

void correct_for_many(const std::vector<PairedComparison*>& comparisons) {
  std::vector<PairedComparison*> tested;
  std::vector<double> p_values;
  for (PairedComparison* comparison : comparisons) {
    if (!comparison->t_test_p) continue;
    tested.push_back(comparison);
    p_values.push_back(*comparison->t_test_p);
  }
  const std::vector<double> raised = holm(p_values);
  for (size_t i = 0; i < tested.size(); ++i) {
    tested[i]->holm_p = raised[i];
    if (p_values[i] > kTestSize || raised[i] <= kTestSize) continue;
    tested[i]->words += fmt::format(" As one of {} comparisons it may be chance: p {:.3f}, after Holm's correction {:.3f}.", tested.size(),
                                    p_values[i], raised[i]);
  }
}

}  // namespace eq
