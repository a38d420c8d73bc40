// Reading finished runs, and what they say together.
#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
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

// Mean training loss over the last tenth of the iterations; rows are means since the row before.
double loss_tail(const fs::path& file, double iterations) {
  double sum = 0, last = kNaN;
  int64_t rows = 0;
  std::istringstream lines(read_text(file, limits::kListFileBytes));
  for (std::string line; std::getline(lines, line);) {
    const json row = json::parse(line, nullptr, false);
    if (!row.is_object() || row.value("type", "") != "train") continue;
    last = number_or_nan(row.value("loss", json()));
    if (!(number_or_nan(row.value("iteration", json())) > 0.9 * iterations)) continue;
    sum += last;
    ++rows;
  }
  return rows > 0 ? sum / double(rows) : last;
}

const PairedRun* find_run(const PairedStudy& study, const std::string& arm, int64_t seed) {
  for (const PairedRun& run : study.runs) {
    if (run.arm == arm && run.seed == seed) return &run;
  }
  return nullptr;
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
          {"sign_test_p", c.sign_test_p},
          {"wins", c.wins},
          {"losses", c.losses},
          {"ties", c.ties},
          {"seeds_to_settle_0.2", c.seeds_to_settle ? ordered_json(*c.seeds_to_settle) : ordered_json(nullptr)},
          {"words", c.words}};
}

ordered_json run_json(const PairedRun& r) {
  return {{"arm", r.arm},
          {"seed", r.seed},
          {"folder", r.folder},
          {"miou", r.miou},
          {"macc", r.macc},
          {"aacc", r.aacc},
          {"cross_entropy", number_or_null(r.cross_entropy)},
          {"per_class", r.per_class},
          {"loss_tail", r.loss_tail},
          {"seconds", r.seconds},
          {"cpu_seconds", r.cpu_seconds},
          {"weights_sha256", r.weights_sha256},
          {"shared_from", r.shared_from.empty() ? ordered_json(nullptr) : ordered_json(r.shared_from)}};
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
    run.loss_tail = loss_tail(folder / "metrics.jsonl", summary.at("iterations").get<double>());
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
        after.push_back(value_of(*b, metric.name));
      }
      PairedComparison comparison = compare_paired(baseline, before, arm, after, metric);
      const bool unknown = comparison.differences.empty() && !before.empty();  // in runs from before it was measured
      if (!unknown) result.push_back(std::move(comparison));
    }
  }
  return result;
}

std::string paired_study_json(const PairedStudy& study, const std::string& command) {
  ordered_json arms = ordered_json::array(), runs = ordered_json::array(), comparisons = ordered_json::array(),
               weights = ordered_json::array();
  for (const Arm& arm : study.arms.arms) {
    arms.push_back({{"name", arm.spec.name}, {"settings", arm.spec.settings},
                    {"same_as", arm.same_as < 0 ? ordered_json(nullptr) : ordered_json(study.arms.arms[size_t(arm.same_as)].spec.name)}});
  }
  double cpu = 0, wall = 0;
  for (const PairedRun& run : study.runs) {
    runs.push_back(run_json(run));
    if (run.shared_from.empty()) cpu += run.cpu_seconds, wall += run.seconds;
  }
  for (const PairedComparison& c : study.comparisons) comparisons.push_back(comparison_json(c));
  for (const WeightsOfSeed& w : study.initial_weights) {
    weights.push_back({{"seed", w.seed}, {"equal", w.equal}, {"sha256", w.sha256},
                       {"first_difference", w.equal ? ordered_json(nullptr) : ordered_json(w.first_difference)}});
  }
  ordered_json value = study_head("run", command, wall);
  value.update({{"finished", study.finished},
                {"config", ordered_json::parse(to_json_text(study.arms.arms.front().configs.front()))},
                {"arms", arms},
                {"seeds", study.arms.seeds},
                {"classes", study.class_names},
                {"initial_weights", weights},
                {"runs", runs},
                {"comparisons", comparisons},
                {"cost", {{"cpu_seconds", cpu}, {"wall_seconds", wall}}}});
  return file_text(value);
}

std::string paired_study_table(const PairedStudy& study) {
  std::string text = fmt::format("{:<24} {:>5} {:>8} {:>8} {:>8} {:>10} {:>9}\n", "arm", "seeds", "mIoU", "std", "mAcc", "loss", "time");
  for (const Arm& arm : study.arms.arms) {
    std::vector<double> miou, macc, loss, seconds;
    for (const PairedRun& run : study.runs) {
      if (run.arm != arm.spec.name) continue;
      miou.push_back(100 * run.miou);
      macc.push_back(100 * run.macc);
      loss.push_back(run.loss_tail);
      seconds.push_back(run.seconds);
    }
    if (miou.empty()) {
      text += fmt::format("{:<24} {:>5} {:>8} {:>8} {:>8} {:>10} {:>9}\n", arm.spec.name, 0, "-", "-", "-", "-", "-");
      continue;
    }
    text += fmt::format("{:<24} {:>5} {:>8.2f} {:>8.2f} {:>8.2f} {:>10.4f} {:>9}\n", arm.spec.name, miou.size(), mean_of(miou),
                        sample_deviation(miou), mean_of(macc), mean_of(loss), human_duration(mean_of(seconds)));
  }
  for (const PairedComparison& c : study.comparisons) {
    if (c.metric == "miou") text += c.words + "\n";
  }
  return text;
}

}  // namespace eq
