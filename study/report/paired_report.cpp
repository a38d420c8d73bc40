// The page of a paired study: arms, seeds, differences.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/words.h"
#include "study/report/chart.h"
#include "study/report/sites.h"
#include "study/report/study_sections.h"
#include "study/report/ticks.h"

namespace eq::report {
namespace {

namespace fs = std::filesystem;

struct MetricText {
  const char *key, *name, *unit, *difference_unit;
  double scale;
  int decimals;
};
constexpr MetricText kMetrics[] = {{"miou", "mIoU", "%", "points", 100, 2},
                                   {"macc", "mAcc", "%", "points", 100, 2},
                                   {"aacc", "aAcc", "%", "points", 100, 2},
                                   {"cross_entropy", "Validation cross-entropy", "nats", "nats", 1, 4},
                                   {"loss_tail", "Training loss at the end", "nats", "nats", 1, 4}};

struct RunRow {
  std::string arm, folder, hash, shared_from;
  double seed, seconds;
  std::vector<double> metrics;  // as kMetrics
  std::vector<double> per_class;
  std::vector<Fields> grad_ratios;  // of each site
};

struct Comparison {
  std::string baseline, arm, metric, words;
  std::vector<double> differences, t, bootstrap;
  double mean, std, t_p, holm_p, sign_p, wins, losses, ties, seeds;
  std::string name() const { return arm + " − " + baseline; }
};

struct Study {
  std::vector<std::string> arms;
  std::vector<double> seeds;
  std::vector<RunRow> runs;
  std::vector<Comparison> comparisons;

  const RunRow* find(const std::string& arm, double seed) const {
    const auto found = std::find_if(runs.begin(), runs.end(), [&](const RunRow& r) { return r.arm == arm && r.seed == seed; });
    return found == runs.end() ? nullptr : &*found;
  }
};

Study read_study(const Fields& fields) {
  Study study;
  for (const Fields& arm : fields.objects("arms")) study.arms.push_back(arm.words("name"));
  study.seeds = fields.numbers("seeds");
  for (const Fields& r : fields.objects("runs")) {
    RunRow row{r.words("arm"),
               r.words("folder"),
               r.words("weights_sha256"),
               r.words("shared_from"),
               r.number("seed"),
               r.number("seconds"),
               {},
               r.numbers("per_class"),
               r.objects("grad_ratios")};
    for (const MetricText& metric : kMetrics) row.metrics.push_back(r.number(metric.key));
    study.runs.push_back(std::move(row));
  }
  for (const Fields& c : fields.objects("comparisons")) {
    study.comparisons.push_back({c.words("baseline"), c.words("arm"), c.words("metric"), c.words("words"), c.numbers("differences"),
                                 c.numbers("t_interval"), c.numbers("bootstrap_interval"), c.number("mean"), c.number("std"),
                                 c.number("t_test_p"), c.number("holm_p"), c.number("sign_test_p"), c.number("wins"), c.number("losses"),
                                 c.number("ties"), c.number("seeds_to_settle_0.2")});
  }
  return study;
}

double finite_mean(const std::vector<double>& values) {
  double sum = 0, count = 0;
  for (const double value : values) {
    if (std::isfinite(value)) sum += value, count += 1;
  }
  return count > 0 ? sum / count : kNone;
}

bool same_seeds(const Study& study) {
  std::map<std::string, std::set<double>> seeds;
  for (const RunRow& run : study.runs) seeds[run.arm].insert(run.seed);
  return std::all_of(seeds.begin(), seeds.end(), [&](const auto& of_arm) { return of_arm.second == seeds.begin()->second; });
}

Markup seeds_plot(const Study& study, size_t metric) {
  const MetricText& text_of = kMetrics[metric];
  DotPlot plot{.title = std::string(text_of.name) + ", every seed",
               .caption = "A line joins the runs of one seed: same initial weights, same data order. The tick is the arm's mean.",
               .row_name = "arm",
               .rows = study.arms,
               .value = {.name = text_of.name, .unit = text_of.unit},
               .groups = {}};
  std::vector<double> means;
  for (const std::string& arm : study.arms) {
    std::vector<double> values;
    for (const double seed : study.seeds) {
      const RunRow* run = study.find(arm, seed);
      values.push_back(run == nullptr ? kNone : text_of.scale * run->metrics[metric]);
    }
    means.push_back(finite_mean(values));
  }
  plot.groups.push_back({"mean", means, Mark::kTick, 1});
  for (const double seed : study.seeds) {
    DotPlot::Group group{"", {}, Mark::kDot, 0, true};
    for (const std::string& arm : study.arms) {
      const RunRow* run = study.find(arm, seed);
      group.values.push_back(run == nullptr ? kNone : text_of.scale * run->metrics[metric]);
    }
    if (plot.groups.size() == 1) group.name = "a seed";
    plot.groups.push_back(std::move(group));
  }
  return dot_plot(plot);
}

Markup differences_plot(const Study& study, size_t metric) {
  const MetricText& text_of = kMetrics[metric];
  DotPlot plot{.title = std::string(text_of.name) + ", differences",
               .caption = "Where the t interval crosses the line at 0, the seeds do not settle the difference.",
               .row_name = "difference",
               .rows = {},
               .value = {.name = text_of.name, .unit = text_of.difference_unit},
               .groups = {},
               .intervals = {},
               .thick_name = "95 % interval (t)",
               .zero = 0};
  DotPlot::Group means{"mean", {}, Mark::kDiamond, 1};
  std::vector<DotPlot::Group> seeds(study.seeds.size(), {"", {}, Mark::kRing, 0});
  if (!seeds.empty()) seeds[0].name = "a seed";
  for (const Comparison& c : study.comparisons) {
    if (c.metric != text_of.key || c.differences.empty()) continue;
    const size_t row = plot.rows.size();
    plot.rows.push_back(c.name());
    means.values.push_back(text_of.scale * c.mean);
    for (size_t s = 0; s < seeds.size(); ++s)
      seeds[s].values.push_back(s < c.differences.size() ? text_of.scale * c.differences[s] : kNone);
    if (c.t.size() == 2) plot.intervals.push_back({row, text_of.scale * c.t[0], text_of.scale * c.t[1], true, 1});
    if (c.bootstrap.size() != 2) continue;
    plot.thin_name = "95 % interval (bootstrap)";
    plot.intervals.push_back({row, text_of.scale * c.bootstrap[0], text_of.scale * c.bootstrap[1], false, 1});
  }
  if (plot.rows.empty()) return {};
  plot.groups = std::move(seeds);
  plot.groups.push_back(std::move(means));
  return dot_plot(plot);
}

Cell shown(double value, const MetricText& metric) {
  return {text(std::isnan(value) ? "–" : fmt::format("{:.{}f}", metric.scale * value, metric.decimals))};
}

Cell shown(const std::vector<double>& interval, const MetricText& metric) {
  if (interval.size() != 2) return {text("–")};
  return {shown(interval[0], metric).content + text(" … ") + shown(interval[1], metric).content};
}

Cell p_value(double p) { return {text(std::isnan(p) ? "–" : p < 0.001 ? "< 0.001" : fmt::format("{:.3f}", p))}; }

Markup comparison_table(const Study& study) {
  std::vector<std::vector<Cell>> rows;
  for (const MetricText& metric : kMetrics) {
    for (const Comparison& c : study.comparisons) {
      if (c.metric != metric.key) continue;
      rows.push_back({cell(c.name()),
                      cell(std::string(metric.name) + ", " + metric.difference_unit),
                      shown(c.mean, metric),
                      shown(c.std, metric),
                      shown(c.t, metric),
                      shown(c.bootstrap, metric),
                      p_value(c.t_p),
                      p_value(c.holm_p),
                      p_value(c.sign_p),
                      {text(fmt::format("{:.0f} / {:.0f} / {:.0f}", c.wins, c.losses, c.ties))},
                      {text(whole_number(c.seeds))}});
    }
  }
  return table("Differences over the seeds, with 95 % intervals of the mean",
               {"Difference", "Of", "Mean", "Std", "t interval", "Bootstrap interval", "t test p", "after Holm", "Sign test p",
                "Better / worse / equal", "Seeds to settle 0.2 points"},
               rows);
}

// Mean difference of each class against the first comparison's baseline.
std::vector<Markup> class_figures(const Study& study, const std::vector<std::string>& names) {
  std::vector<Markup> figures;
  for (const Comparison& c : study.comparisons) {
    if (c.metric != "miou") continue;
    BarChart chart{.title = "IoU of each class: " + c.name(),
                   .caption = "Mean over the seeds.",
                   .rows = "class",
                   .value = {.name = "difference in IoU", .unit = "points"},
                   .bars = {}};
    std::vector<std::vector<double>> differences;
    for (const double seed : study.seeds) {
      const RunRow *arm = study.find(c.arm, seed), *baseline = study.find(c.baseline, seed);
      if (arm == nullptr || baseline == nullptr) continue;
      differences.resize(std::max(differences.size(), std::min(arm->per_class.size(), baseline->per_class.size())));
      for (size_t k = 0; k < std::min(arm->per_class.size(), baseline->per_class.size()); ++k)
        differences[k].push_back(100 * (arm->per_class[k] - baseline->per_class[k]));
    }
    for (size_t k = 0; k < std::min<size_t>(differences.size(), 40); ++k) {
      const double mean = finite_mean(differences[k]);
      chart.bars.push_back({k < names.size() ? names[k] : fmt::format("class {}", k), mean,
                            std::isnan(mean) ? "absent" : fmt::format("{:+.1f}", mean), mean < 0 ? 1 : 0});
    }
    if (!chart.bars.empty()) figures.push_back(bar_chart(chart));
  }
  return figures;
}

// The geometric mean over an arm's runs at each iteration that one of them has a record of.
Series ratios_of(const Study& study, const std::string& arm, const std::string& site) {
  std::map<double, std::vector<double>> logs;
  for (const RunRow& run : study.runs) {
    for (const Fields& of_site : run.grad_ratios) {
      if (run.arm != arm || of_site.words("site") != site) continue;
      const std::vector<double> iterations = of_site.numbers("iterations"), ratios = of_site.numbers("ratios");
      for (size_t i = 0; i < std::min(iterations.size(), ratios.size()); ++i) logs[iterations[i]].push_back(std::log(ratios[i]));
    }
  }
  Series series{.name = arm};
  for (const auto& [iteration, of_runs] : logs) {
    series.x.push_back(iteration);
    series.y.push_back(std::exp(finite_mean(of_runs)));
  }
  return series;
}

// Empty where the runs were not probed.
Markup gradients(const Study& study, const std::vector<Fields>& changes) {
  std::vector<std::string> sites;
  for (const RunRow& run : study.runs) {
    for (const Fields& site : run.grad_ratios) {
      if (std::find(sites.begin(), sites.end(), site.words("site")) == sites.end()) sites.push_back(site.words("site"));
    }
  }
  if (sites.empty()) return {};
  std::vector<Markup> figures;
  for (const std::string& site : sites) {
    LineChart chart{.title = site,
                    .caption = "Largest over smallest gradient per weight (RMS of a branch's slice), geometric mean over the seeds.",
                    .x = kIterations,
                    .y = {.name = "largest / smallest", .low = 1},
                    .series = {}};
    for (size_t a = 0; a < study.arms.size(); ++a) {
      Series series = ratios_of(study, study.arms[a], site);
      series.color = int(a % 8);
      if (!series.x.empty()) chart.series.push_back(std::move(series));
    }
    figures.push_back(line_chart(chart));
  }
  std::vector<std::vector<Cell>> rows;
  for (const Fields& change : changes) {
    rows.push_back(ratio_change_row(change));
    rows.back().insert(rows.back().begin() + 1, {text(whole_number(change.number("iteration")))});
  }
  return gallery(figures) + (rows.empty() ? Markup() : table(kRatioChanges, {"Site", "Iteration", "Arms", "Mean", "Interval"}, rows));
}

Markup runs_table(const Study& study, const fs::path& folder) {
  std::vector<std::vector<Cell>> rows;
  for (const RunRow& run : study.runs) {
    const std::string label = fmt::format("{}, seed {:.0f}", run.arm, run.seed);
    const fs::path page = fs::path(run.folder) / "report.html";
    // "./" keeps a colon in a folder's name from being read as a scheme.
    const bool linked = !run.folder.empty() && fs::path(run.folder).is_relative() && fs::exists(folder / page);
    std::vector<Cell> row = {{linked ? element("a", {{"href", "./" + page.generic_string()}}, text(label)) : text(label), false}};
    for (size_t m = 0; m < std::size(kMetrics); ++m) row.push_back(shown(run.metrics[m], kMetrics[m]));
    row.push_back({text(duration(run.seconds))});
    row.push_back(cell(run.shared_from.empty() ? run.hash.substr(0, 12) : run.hash.substr(0, 12) + ", shared with " + run.shared_from));
    rows.push_back(std::move(row));
  }
  return table("Every run",
               {"Run", "mIoU %", "mAcc %", "aAcc %", "Cross-entropy", "Loss at the end", "Time", "SHA-256 of the weights begins"}, rows);
}

std::string initial_words(const Fields& fields) {
  std::vector<std::string> different;
  const std::vector<Fields> all = fields.objects("initial_weights");
  for (const Fields& seed : all) {
    if (!seed.flag("equal")) different.push_back(fmt::format("seed {:.0f} at {}", seed.number("seed"), seed.words("first_difference")));
  }
  if (all.empty()) return "";
  return different.empty() ? "The weights that the arms have in common start from the same values, for every seed."
                           : "The arms start from different weights: " + joined(different) + ".";
}

Markup diverged_words(const Fields& fields) {
  Markup words;
  for (const Fields& run : fields.objects("diverged")) {
    words += paragraph(fmt::format("{} diverged with seed {:.0f}, at iteration {:.0f}: no pair has it.", run.words("arm"),
                                   run.number("seed"), run.number("iteration")));
  }
  return words;
}

}  // namespace

std::vector<Section> paired_sections(const Fields& fields, const fs::path& folder) {
  const Study study = read_study(fields);
  if (study.runs.empty()) {
    return {
        {"runs", "Runs", diverged_words(fields) + missing("the study has no finished run.", "Go on with the same command: it resumes.")}};
  }
  Section words{"words", "What it says", {}}, results{"results", "Arms and seeds", {}}, differences{"differences", "Differences", {}};
  for (const Comparison& c : study.comparisons) {
    if (!c.words.empty() && c.metric == "miou") words.body += paragraph(c.words);
  }
  words.body += diverged_words(fields);
  Markup others;
  for (const Comparison& c : study.comparisons) {
    if (!c.words.empty() && c.metric != "miou") others += paragraph(c.words);
  }
  if (!others.empty()) words.body += element("details", element("summary", text("The other metrics in words")) + others);
  if (words.body.empty()) words.body = missing("no comparison: a study needs two arms and a seed that both have finished.", "");

  std::vector<Markup> seeds, intervals;
  for (size_t m = 0; m < std::size(kMetrics); ++m) {
    if (std::all_of(study.runs.begin(), study.runs.end(), [m](const RunRow& run) { return std::isnan(run.metrics[m]); })) continue;
    seeds.push_back(seeds_plot(study, m));
    intervals.push_back(differences_plot(study, m));
  }
  results.body = gallery(seeds);
  if (!same_seeds(study)) {
    results.body +=
        paragraph("Not all arms have finished the same seeds: the means above are not of the same ones, the differences below are.");
  }
  differences.body = gallery(intervals) + comparison_table(study);
  std::vector<Section> sections = {words, results, differences};
  if (const auto figures = class_figures(study, fields.strings("classes")); !figures.empty())
    sections.push_back({"classes", "Classes", gallery(figures)});
  if (Markup body = gradients(study, fields.objects("ratio_changes")); !body.empty())
    sections.push_back({"gradients", "Gradients where levels are fused", std::move(body)});
  Section runs{"runs", "Runs and cost", {}};
  std::vector<std::vector<Cell>> arms;
  for (const Fields& arm : fields.objects("arms")) {
    const std::string settings = joined(arm.strings("settings"));
    arms.push_back({cell(arm.words("name")), cell(settings.empty() ? "the configuration as it is" : settings)});
  }
  const Fields cost = fields.object("cost");
  if (cost.has("cpu_seconds")) {
    runs.body += paragraph(fmt::format("The study took {} of processor time and {} by the clock (h:mm:ss).",
                                       duration(cost.number("cpu_seconds")), duration(cost.number("wall_seconds"))));
  }
  runs.body += paragraph(initial_words(fields)) + table("The arms", {"Arm", "Settings"}, arms) + runs_table(study, folder);
  sections.push_back(std::move(runs));
  return sections;
}

}  // namespace eq::report
