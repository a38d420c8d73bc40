// Claims about training, judged by paired runs.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "study/claims/rules.h"

namespace eq {
namespace {

constexpr const char* kCommand = "equiscale study run CONFIG --arms off,explicit,folded --seeds 10 --out DIR";
constexpr double kLeastGain = 0.001;   // of mIoU: the paper's gains are 0.1 to 0.4 points
constexpr double kFreeOfCost = 0.03;   // relative time

bool is_fold(const std::string& mode) { return mode.starts_with("folded"); }
bool is_equalizer(const std::string& mode) { return mode == "explicit" || is_fold(mode); }

using Value = double (*)(const RunEvidence::Run&);

// Differences second - first, one for each seed that both have.
std::vector<double> differences(const RunEvidence& study, const std::string& first, const std::string& second, Value value) {
  std::vector<double> result;
  const auto a = study.runs.find(first), b = study.runs.find(second);
  if (a == study.runs.end() || b == study.runs.end()) return result;
  for (const auto& [seed, run] : a->second) {
    const auto other = b->second.find(seed);
    if (other == b->second.end()) continue;
    const double difference = value(other->second) - value(run);
    if (std::isfinite(difference)) result.push_back(difference);
  }
  return result;
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

// Agreement of several verdicts: what some say and none contradicts.
Verdict together(const std::vector<Verdict>& verdicts) {
  if (verdicts.empty()) return Verdict::kNotMeasured;
  const auto some = [&](Verdict v) { return std::find(verdicts.begin(), verdicts.end(), v) != verdicts.end(); };
  if (some(Verdict::kHolds) && !some(Verdict::kDoesNotHold)) return Verdict::kHolds;
  if (some(Verdict::kDoesNotHold) && !some(Verdict::kHolds)) return Verdict::kDoesNotHold;
  return Verdict::kNotSettled;
}

// One sentence part and one verdict per pair, joined.
class Verdicts {
 public:
  void add(const ArmPair& pair, Verdict verdict, const std::string& text) {
    verdicts_.push_back(verdict);
    const std::string folder = std::filesystem::path(pair.study->file).parent_path().generic_string();
    texts_ += (texts_.empty() ? "" : "; ") + (folder.empty() ? "" : folder + ", ") + pair.second + " against " + pair.first + ": " + text;
    files_.push_back(pair.study->file);
  }
  const std::vector<Verdict>& list() const { return verdicts_; }
  Claim claim(const std::string& words, const std::string& source) const {
    if (verdicts_.empty()) return {words, source, "", Verdict::kNotMeasured, kCommand};
    return {words, source, texts_, together(verdicts_), joined(files_)};
  }
  size_t studies() const { return std::set<std::string>(files_.begin(), files_.end()).size(); }

 private:
  std::vector<Verdict> verdicts_;
  std::string texts_;
  std::vector<std::string> files_;
};

Verdicts accuracy_gains(const std::vector<RunEvidence>& evidence) {
  Verdicts verdicts;
  for (const ArmPair& pair : pairs_of(evidence, is_off, is_equalizer)) {
    const auto gains = differences(*pair.study, pair.first, pair.second, [](const RunEvidence::Run& run) { return run.miou; });
    const auto interval = t_interval(gains);
    if (!interval) continue;
    const auto [low, high] = *interval;
    if (low == high) continue;  // equal to the last digit: the networks have learned nothing, or nothing was changed
    verdicts.add(pair, high < kLeastGain ? Verdict::kDoesNotHold : low > 0 ? Verdict::kHolds : Verdict::kNotSettled,
                 fmt::format("{:+.2f} points ({:+.2f} to {:+.2f}, {} seeds)", 100 * mean_of(gains), 100 * low, 100 * high, gains.size()));
  }
  return verdicts;
}

Claim consistent(const Verdicts& gains) {
  const std::string words = "The gain is consistent across data sets and decoders";
  if (gains.studies() < 2) return {words, "section 4.1", "fewer than two studies", Verdict::kNotMeasured, kCommand};
  Claim claim = gains.claim(words, "section 4.1");
  const bool all = std::all_of(gains.list().begin(), gains.list().end(), [](Verdict v) { return v == Verdict::kHolds; });
  if (!all && claim.verdict == Verdict::kHolds) claim.verdict = Verdict::kNotSettled;
  return claim;
}

Claim no_cost(const std::vector<RunEvidence>& evidence) {
  Verdicts verdicts;
  for (const ArmPair& pair : pairs_of(evidence, is_off, is_fold)) {
    const auto logs = differences(*pair.study, pair.first, pair.second, [](const RunEvidence::Run& run) { return std::log(run.seconds); });
    const auto interval = t_interval(logs);
    if (!interval) continue;
    const double low = std::exp((*interval)[0]) - 1, high = std::exp((*interval)[1]) - 1;
    verdicts.add(pair,
                 high <= kFreeOfCost ? Verdict::kHolds
                 : low > kFreeOfCost ? Verdict::kDoesNotHold
                                     : Verdict::kNotSettled,
                 fmt::format("time {:+.1f} % ({:+.1f} to {:+.1f}, calibration included)", 100 * (std::exp(mean_of(logs)) - 1), 100 * low,
                             100 * high));
  }
  return verdicts.claim("Folded into the weights, equalizers cost nothing in training", "abstract; section 1.5");
}

Claim initializer(const std::vector<RunEvidence>& evidence) {
  Verdicts verdicts;
  const auto is_explicit = [](const std::string& mode) { return mode == "explicit"; };
  const auto is_plain_fold = [](const std::string& mode) { return mode == "folded"; };
  for (const ArmPair& pair : pairs_of(evidence, is_explicit, is_plain_fold)) {
    const auto changes = differences(*pair.study, pair.first, pair.second, [](const RunEvidence::Run& run) { return run.loss_tail; });
    const auto interval = t_interval(changes);
    if (!interval) continue;
    const bool differs = (*interval)[0] > 0 || (*interval)[1] < 0;
    verdicts.add(pair, differs ? Verdict::kDoesNotHold : Verdict::kNotSettled,
                 fmt::format("final training loss {:+.4f} ({:+.4f} to {:+.4f}, {} seeds)", mean_of(changes), (*interval)[0], (*interval)[1],
                             changes.size()));
  }
  return verdicts.claim("Training with equalizers equals training from folded weights: the equalizer is an initializer", "section 1.5");
}

}  // namespace

std::vector<Claim> judge_runs(const std::vector<RunEvidence>& evidence) {
  const Verdicts gains = accuracy_gains(evidence);
  return {gains.claim("Equalizers raise the mIoU by about 0.1 to 0.4 points", "abstract; section 4.1"), consistent(gains),
          no_cost(evidence), initializer(evidence)};
}

}  // namespace eq
