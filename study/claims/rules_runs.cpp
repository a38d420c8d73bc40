// Claims about training, judged by paired runs.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include "study/claims/rules.h"

namespace eq {
namespace {

constexpr const char* kCommand = "equiscale study run CONFIG --arms off,explicit,folded --seeds 10 --out DIR";
constexpr double kLeastGain = 0.001;   // of mIoU: the paper's gains are 0.1 to 0.4 points
constexpr double kFreeOfCost = 0.03;   // relative time

bool is_fold(const std::string& mode) { return mode.starts_with("folded"); }
bool is_equalizer(const std::string& mode) { return mode == "explicit" || is_fold(mode); }

using Value = double (*)(const RunEvidence::Run&);

// The study that weights have counted for: a copy of it, or another one that has some of its runs, an arm without equalizers, say, is no
// further evidence.
using Counted = std::map<std::string, const RunEvidence*>;

bool counts_for(Counted& counted, const std::string& weights, const RunEvidence& study) {
  return weights.empty() || counted.try_emplace(weights, &study).first->second == &study;
}

// Differences second - first, one for each seed that both have.
std::vector<double> differences(const RunEvidence& study, const std::string& first, const std::string& second, Counted& counted,
                                Value value) {
  std::vector<double> result;
  const auto a = study.runs.find(first), b = study.runs.find(second);
  if (a == study.runs.end() || b == study.runs.end()) return result;
  for (const auto& [seed, run] : a->second) {
    const auto other = b->second.find(seed);
    if (other == b->second.end()) continue;
    const double difference = value(other->second) - value(run);
    if (!std::isfinite(difference)) continue;
    if (counts_for(counted, run.weights, study) && counts_for(counted, other->second.weights, study)) result.push_back(difference);
  }
  return result;
}

// Whether the final losses of both arms are means over the same iterations: a study that was begun with another train.log_every has others.
bool same_tails(const RunEvidence& study, const std::string& first, const std::string& second) {
  std::set<double> begins;
  for (const std::string& arm : {first, second}) {
    const auto runs = study.runs.find(arm);
    if (runs == study.runs.end()) continue;
    for (const auto& [seed, run] : runs->second) begins.insert(run.tail_from);
  }
  return begins.size() < 2;
}

// Pairs of arms whose modes satisfy the two conditions and that differ in nothing but the equalizer.
struct ArmPair {
  const RunEvidence* study;
  std::string first, second;
};
template <class First, class Second>
std::vector<ArmPair> pairs_of(const std::vector<RunEvidence>& evidence, First first, Second second) {
  std::vector<ArmPair> pairs;
  for (const RunEvidence& study : evidence) {
    for (const auto& [a, arm_a] : study.arms) {
      for (const auto& [b, arm_b] : study.arms) {
        if (first(arm_a.mode) && second(arm_b.mode) && arm_a.others == arm_b.others) pairs.push_back({&study, a, b});
      }
    }
  }
  return pairs;
}

bool is_off(const std::string& mode) { return mode == "off"; }

// What a 95 % interval of differences says.
using Rule = Verdict (*)(double low, double high);

// Each pair of arms in words; over the studies, the mean difference of one pair from each.
class Judged {
 public:
  // `words` are those of a mean with its interval. Pairs of one study share runs: the mode that comes first in kPreferred counts.
  void add(const ArmPair& pair, std::vector<double> values, const std::string& words) {
    const std::string folder = std::filesystem::path(pair.study->file).parent_path().generic_string();
    texts_ += (texts_.empty() ? "" : "; ") + (folder.empty() ? "" : folder + ", ") + pair.second + " against " + pair.first + ": " + words;
    const auto rank = std::find(std::begin(kPreferred), std::end(kPreferred), pair.study->arms.at(pair.second).mode) - std::begin(kPreferred);
    const auto known = counting_.find(pair.study->file);
    if (known == counting_.end() || rank < known->second.rank) counting_[pair.study->file] = {rank, std::move(values)};
  }

  // What is shown of the pooled mean is up to `show`.
  template <class Show>
  Claim claim(const std::string& words, const std::string& source, Rule rule, Show show) const {
    const std::vector<std::vector<double>> studies = values();
    const auto pooled = pooled_mean(studies);
    if (!pooled) return {words, source, "", Verdict::kNotMeasured, kCommand};
    std::string text = texts_;
    if (studies.size() > 1) text += fmt::format("; mean of {} studies: ", studies.size()) + show(pooled->mean, pooled->interval);
    return {words, source, text, rule(pooled->interval[0], pooled->interval[1]), files()};
  }

  // Every study for itself: all hold; one does not; else not settled.
  Claim each(const std::string& words, const std::string& source, Rule rule) const {
    if (counting_.size() < 2) return {words, source, "fewer than two studies", Verdict::kNotMeasured, kCommand};
    std::vector<Verdict> verdicts;
    for (const std::vector<double>& study : values()) {
      const auto interval = t_interval(study);
      verdicts.push_back(rule((*interval)[0], (*interval)[1]));
    }
    const auto count = [&](Verdict v) { return size_t(std::count(verdicts.begin(), verdicts.end(), v)); };
    const Verdict verdict = count(Verdict::kDoesNotHold) > 0                  ? Verdict::kDoesNotHold
                            : count(Verdict::kHolds) == verdicts.size() ? Verdict::kHolds
                                                                        : Verdict::kNotSettled;
    return {words, source, texts_, verdict, files()};
  }

 private:
  static constexpr const char* kPreferred[] = {"explicit", "folded", "folded_normalised", "folded_lr"};
  struct Counting {
    std::ptrdiff_t rank;
    std::vector<double> values;
  };
  std::vector<std::vector<double>> values() const {
    std::vector<std::vector<double>> all;
    for (const auto& [file, counting] : counting_) all.push_back(counting.values);
    return all;
  }
  std::string files() const {
    std::vector<std::string> all;
    for (const auto& [file, counting] : counting_) all.push_back(file);
    return once_each(all);
  }

  std::string texts_;
  std::map<std::string, Counting> counting_;  // by file
};

Verdict gain_rule(double low, double high) {
  return high < kLeastGain ? Verdict::kDoesNotHold : low > 0 ? Verdict::kHolds : Verdict::kNotSettled;
}

std::string points(double mean, const Interval& interval) {
  return fmt::format("{:+.2f} points ({:+.2f} to {:+.2f})", 100 * mean, 100 * interval[0], 100 * interval[1]);
}

Judged accuracy_gains(const std::vector<RunEvidence>& evidence) {
  Judged judged;
  Counted counted;
  for (const ArmPair& pair : pairs_of(evidence, is_off, is_equalizer)) {
    const auto gains = differences(*pair.study, pair.first, pair.second, counted, [](const RunEvidence::Run& run) { return run.miou; });
    const auto interval = t_interval(gains);
    if (!interval || (*interval)[0] == (*interval)[1]) continue;  // equal to the last digit: nothing was learned, or nothing was changed
    judged.add(pair, gains, points(mean_of(gains), *interval) + fmt::format(" over {} seeds", gains.size()));
  }
  return judged;
}

std::string cost(double mean, const Interval& interval) {
  const auto percent = [](double log_ratio) { return 100 * (std::exp(log_ratio) - 1); };
  return fmt::format("time {:+.1f} % ({:+.1f} to {:+.1f}, calibration included)", percent(mean), percent(interval[0]), percent(interval[1]));
}

Claim no_cost(const std::vector<RunEvidence>& evidence) {
  Judged judged;
  Counted counted;
  for (const ArmPair& pair : pairs_of(evidence, is_off, is_fold)) {
    const auto logs =
        differences(*pair.study, pair.first, pair.second, counted, [](const RunEvidence::Run& run) { return std::log(run.seconds); });
    if (const auto interval = t_interval(logs)) judged.add(pair, logs, cost(mean_of(logs), *interval));
  }
  const Rule rule = [](double low, double high) {
    const double limit = std::log(1 + kFreeOfCost);
    return high <= limit ? Verdict::kHolds : low > limit ? Verdict::kDoesNotHold : Verdict::kNotSettled;
  };
  return judged.claim("Folded into the weights, equalizers cost nothing in training", "abstract; section 1.5", rule, cost);
}

std::string loss(double mean, const Interval& interval) {
  return fmt::format("final training loss {:+.4f} ({:+.4f} to {:+.4f})", mean, interval[0], interval[1]);
}

Claim initializer(const std::vector<RunEvidence>& evidence) {
  Judged judged;
  Counted counted;
  const auto is_explicit = [](const std::string& mode) { return mode == "explicit"; };
  const auto is_plain_fold = [](const std::string& mode) { return mode == "folded"; };
  for (const ArmPair& pair : pairs_of(evidence, is_explicit, is_plain_fold)) {
    if (!same_tails(*pair.study, pair.first, pair.second)) continue;
    const auto changes =
        differences(*pair.study, pair.first, pair.second, counted, [](const RunEvidence::Run& run) { return run.loss_tail; });
    const auto interval = t_interval(changes);
    if (interval) judged.add(pair, changes, loss(mean_of(changes), *interval) + fmt::format(" over {} seeds", changes.size()));
  }
  const Rule rule = [](double low, double high) { return low > 0 || high < 0 ? Verdict::kDoesNotHold : Verdict::kNotSettled; };
  return judged.claim("Training with equalizers equals training from folded weights: the equalizer is an initializer", "section 1.5", rule, loss);
}

}  // namespace

std::vector<Claim> judge_runs(const std::vector<RunEvidence>& evidence) {
  const Judged gains = accuracy_gains(evidence);
  return {gains.claim("Equalizers raise the mIoU by about 0.1 to 0.4 points", "abstract; section 4.1", gain_rule, points),
          gains.each("The gain is consistent across data sets and decoders", "section 4.1", gain_rule), no_cost(evidence),
          initializer(evidence)};
}

}  // namespace eq
