// Reading finished runs, and what they say together.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "core/errors.h"
#include "core/file.h"
#include "core/json.h"
#include "core/limits.h"
#include "core/progress_line.h"
#include "study/paired/run.h"
#include "study/study_head.h"

namespace eq {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

double number_or_nan(const json& value) { return value.is_number() ? value.get<double>() : kNaN; }

struct Tail {
  double loss = kNaN, from = 0;
};

// Mean training loss over the rows that end in the last tenth of the iterations. A row is the mean over the iterations since the one
// before.
Tail loss_tail(const fs::path& file, double iterations) {
  double sum = 0, steps = 0, before = 0;
  Tail tail;
  std::istringstream lines(read_text(file, limits::kListFileBytes));
  for (std::string line; std::getline(lines, line);) {
    const json row = json::parse(line, nullptr, false);
    if (!row.is_object() || row.value("type", "") != "train") continue;
    const double loss = number_or_nan(row.value("loss", json())), iteration = number_or_nan(row.value("iteration", json()));
    if (iteration > 0.9 * iterations && iteration > before) {
      if (steps == 0) tail.from = before;
      sum += loss * (iteration - before);
      steps += iteration - before;
      tail.loss = sum / steps;
    }
    if (iteration > before) before = iteration;
  }
  return tail;
}

// Whether all arms with finished runs have finished the same seeds.
bool same_seeds(const PairedStudy& study) {
  std::map<std::string, std::set<int64_t>> seeds;
  for (const PairedRun& run : study.runs) seeds[run.arm].insert(run.seed);
  return std::all_of(seeds.begin(), seeds.end(), [&](const auto& of_arm) { return of_arm.second == seeds.begin()->second; });
}

const PairedRun* find_run(const PairedStudy& study, const std::string& arm, int64_t seed) {
  for (const PairedRun& run : study.runs) {
    if (run.arm == arm && run.seed == seed) return &run;
  }
  return nullptr;
}

bool comparable(const PairedRun& a, const PairedRun& b, const Metric& metric) {
  return metric.name != "loss_tail" || a.tail_from == b.tail_from;
}

double value_of(const PairedRun& run, const std::string& metric) {
  if (metric == "miou") return run.miou;
  if (metric == "macc") return run.macc;
  if (metric == "aacc") return run.aacc;
  if (metric == "cross_entropy") return run.cross_entropy;
  return run.loss_tail;
}

ordered_json comparison_json(const PairedComparison& c) {
  return {{"baseline", c.baseline},
          {"arm", c.arm},
          {"metric", c.metric},
          {"differences", c.differences},
          {"mean", c.mean},
          {"std", c.std},
          {"t_interval", interval_json(c.t_interval)},
          {"bootstrap_interval", interval_json(c.bootstrap_interval)},
          {"t_test_p", c.t_test_p ? ordered_json(*c.t_test_p) : ordered_json(nullptr)},
          {"holm_p", c.holm_p ? ordered_json(*c.holm_p) : ordered_json(nullptr)},
          {"sign_test_p", c.sign_test_p},
          {"wins", c.wins},
          {"losses", c.losses},
          {"ties", c.ties},
          {"seeds_to_settle_0.2", c.seeds_to_settle ? ordered_json(*c.seeds_to_settle) : ordered_json(nullptr)},
          {"words", c.words}};
}

ordered_json run_json(const PairedRun& r) {
  ordered_json ratios = ordered_json::array();
  for (const SiteRatios& site : r.grad_ratios) {
    ratios.push_back({{"site", site.site}, {"iterations", site.iterations}, {"ratios", site.ratios}});
  }
  return {{"arm", r.arm},
          {"seed", r.seed},
          {"folder", r.folder},
          {"miou", r.miou},
          {"macc", r.macc},
          {"aacc", r.aacc},
          {"cross_entropy", number_or_null(r.cross_entropy)},
          {"per_class", r.per_class},
          {"loss_tail", r.loss_tail},
          {"loss_tail_from", r.tail_from},
          {"seconds", r.seconds},
          {"cpu_seconds", r.cpu_seconds},
          {"weights_sha256", r.weights_sha256},
          {"shared_from", r.shared_from.empty() ? ordered_json(nullptr) : ordered_json(r.shared_from)},
          {"grad_ratios", ratios}};
}

}  // namespace

PairedRun read_paired_run(const fs::path& folder, std::vector<std::string>* class_names) {
  const fs::path file = folder / "summary.json";
  const json summary = parse_json(read_text(file, limits::kJsonBytes), file.string(), false);
  PairedRun run;
  try {
    run.miou = number_or_nan(summary.at("miou"));
    run.macc = number_or_nan(summary.at("macc"));
    run.aacc = number_or_nan(summary.at("aacc"));
    run.cross_entropy = number_or_nan(summary.value("cross_entropy", json()));
    run.seconds = summary.at("seconds").get<double>();
    run.weights_sha256 = summary.at("weights_sha256").get<std::string>();
    if (class_names != nullptr) class_names->clear();
    for (const json& entry : summary.at("per_class")) {
      run.per_class.push_back(number_or_nan(entry.at("iou")));
      if (class_names != nullptr) class_names->push_back(entry.at("name").get<std::string>());
    }
    const Tail tail = loss_tail(folder / "metrics.jsonl", summary.at("iterations").get<double>());
    run.loss_tail = tail.loss;
    run.tail_from = tail.from;
    run.grad_ratios = read_grad_ratios(folder / "probes.jsonl");
    if (const fs::path cost = folder / "cost.json"; fs::exists(cost)) {
      run.cpu_seconds = parse_json(read_text(cost, limits::kJsonBytes), cost.string(), false).at("cpu_seconds").get<double>();
    }
  } catch (const json::exception& error) {
    throw DataError("the run's summary lacks something: " + json_reason(error.what()), file.string(),
                    "delete this run's folder; it will be made again");
  }
  return run;
}

std::vector<Metric> paired_metrics() {
  constexpr double kPoints = 100;  // metrics are shares, spoken of in percent
  return {{"miou", "mIoU", kPoints, 2, " points", true, 0.2 / kPoints},
          {"macc", "mean accuracy", kPoints, 2, " points", true, 0.2 / kPoints},
          {"aacc", "pixel accuracy", kPoints, 2, " points", true, 0.2 / kPoints},
          {"cross_entropy", "validation cross-entropy", 1, 4, "", false, 0},
          {"loss_tail", "training loss", 1, 4, "", false, 0}};
}

std::vector<PairedComparison> compare_arms(const PairedStudy& study) {
  std::vector<PairedComparison> result;
  const std::string& baseline = study.arms.arms.front().spec.name;
  for (size_t i = 1; i < study.arms.arms.size(); ++i) {
    const std::string& arm = study.arms.arms[i].spec.name;
    for (const Metric& metric : paired_metrics()) {
      std::vector<double> before, after;
      for (const int64_t seed : study.arms.seeds) {
        const PairedRun *a = find_run(study, baseline, seed), *b = find_run(study, arm, seed);
        if (a == nullptr || b == nullptr) continue;
        before.push_back(value_of(*a, metric.name));
        after.push_back(comparable(*a, *b, metric) ? value_of(*b, metric.name) : kNaN);
      }
      PairedComparison comparison = compare_paired(baseline, before, arm, after, metric);
      const bool unknown = comparison.differences.empty() && !before.empty();  // in runs from before it was measured
      if (!unknown) result.push_back(std::move(comparison));
    }
  }
  for (const Metric& metric : paired_metrics()) {
    std::vector<PairedComparison*> of_metric;
    for (PairedComparison& c : result) {
      if (c.metric == metric.name) of_metric.push_back(&c);
    }
    correct_for_many(of_metric);
  }
  return result;
}

std::string paired_study_json(const PairedStudy& study, const std::string& command) {
  ordered_json arms = ordered_json::array(), runs = ordered_json::array(), comparisons = ordered_json::array(),
               weights = ordered_json::array(), diverged = ordered_json::array();
  for (const Arm& arm : study.arms.arms) {
    arms.push_back({{"name", arm.spec.name}, {"settings", arm.spec.settings},
                    {"same_as", arm.same_as < 0 ? ordered_json(nullptr) : ordered_json(study.arms.arms[size_t(arm.same_as)].spec.name)}});
  }
  double cpu = 0, wall = 0;
  for (const PairedRun& run : study.runs) {
    runs.push_back(run_json(run));
    if (run.shared_from.empty()) cpu += run.cpu_seconds, wall += run.seconds;
  }
  for (const DivergedRun& d : study.diverged) {
    diverged.push_back({{"arm", d.arm}, {"seed", d.seed}, {"iteration", d.iteration}, {"folder", d.folder}});
  }
  for (const PairedComparison& c : study.comparisons) comparisons.push_back(comparison_json(c));
  for (const WeightsOfSeed& w : study.initial_weights) {
    weights.push_back({{"seed", w.seed}, {"equal", w.equal}, {"sha256", w.sha256},
                       {"first_difference", w.equal ? ordered_json(nullptr) : ordered_json(w.first_difference)}});
  }
  ordered_json changes = ordered_json::array();
  for (const RatioComparison& c : compare_grad_ratios(study)) {
    changes.push_back({{"site", c.site}, {"baseline", c.baseline}, {"arm", c.arm}, {"iteration", c.iteration}});
    changes.back().update(factor_json(c.factor));
  }
  ordered_json value = study_head("run", command, wall);
  value.update({{"finished", study.finished},
                {"config", ordered_json::parse(to_json_text(study.arms.arms.front().configs.front()))},
                {"arms", arms},
                {"seeds", study.arms.seeds},
                {"classes", study.class_names},
                {"initial_weights", weights},
                {"runs", runs},
                {"diverged", diverged},
                {"comparisons", comparisons},
                {"ratio_changes", changes},
                {"cost", {{"cpu_seconds", cpu}, {"wall_seconds", wall}}}});
  return file_text(value);
}

std::string paired_study_table(const PairedStudy& study) {
  constexpr const char* kRow = "{:<24} {:>5} {:>8} {:>8} {:>8} {:>13} {:>10} {:>9}\n";
  std::string text = fmt::format(kRow, "arm", "seeds", "mIoU", "std", "mAcc", "cross-entropy", "loss", "time");
  for (const Arm& arm : study.arms.arms) {
    std::vector<const PairedRun*> runs;
    for (const PairedRun& run : study.runs) {
      if (run.arm == arm.spec.name) runs.push_back(&run);
    }
    const auto finite = [&](double PairedRun::*number) {
      std::vector<double> values;
      for (const PairedRun* run : runs) {
        if (std::isfinite(run->*number)) values.push_back(run->*number);
      }
      return values;
    };
    const auto mean = [&](double PairedRun::*number, double scale, int digits) {
      const std::vector<double> values = finite(number);
      return values.empty() ? "-" : fmt::format("{:.{}f}", scale * mean_of(values), digits);
    };
    const std::vector<double> miou = finite(&PairedRun::miou);
    text += fmt::format(kRow, arm.spec.name, runs.size(), mean(&PairedRun::miou, 100, 2),
                        miou.size() < 2 ? "-" : fmt::format("{:.2f}", 100 * sample_deviation(miou)), mean(&PairedRun::macc, 100, 2),
                        mean(&PairedRun::cross_entropy, 1, 4), mean(&PairedRun::loss_tail, 1, 4),
                        runs.empty() ? "-" : human_duration(mean_of(finite(&PairedRun::seconds))));
  }
  for (const char* metric : {"miou", "cross_entropy"}) {
    for (const PairedComparison& c : study.comparisons) {
      const bool said = metric != std::string("miou") && c.differences.empty();  // that there is no pair
      if (c.metric == metric && !said) text += c.words + "\n";
    }
  }
  if (!same_seeds(study))
    text += "Not all arms have finished the same seeds: the means above are not of the same ones, the differences are.\n";
  text += grad_ratios_table(compare_grad_ratios(study));
  for (const DivergedRun& d : study.diverged) {
    text += fmt::format("{} diverged with seed {}, at iteration {}: no pair has it.\n", d.arm, d.seed, d.iteration);
  }
  return text;
}

}  // namespace eq
