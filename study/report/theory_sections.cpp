// The page of the theory study: predictions beside measurements, and how fast levels are learned.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "study/report/chart.h"
#include "study/report/study_sections.h"
#include "study/report/ticks.h"

namespace eq::report {
namespace {

struct Check {
  std::string name, setting;
  double predicted, measured, error, z;
  bool at_most, pass;  // at_most: the prediction is a limit
};

std::vector<Check> read_checks(const Fields& study) {
  std::vector<Check> checks;
  for (const Fields& c : study.objects("checks")) {
    checks.push_back({c.words("name"), c.words("setting"), c.number("predicted"), c.number("measured"), c.number("standard_error"),
                      c.number("z"), c.flag("at_most"), c.flag("pass")});
  }
  return checks;
}

std::vector<std::string> names_of(const std::vector<Check>& checks) {
  std::vector<std::string> names;
  for (const Check& check : checks) {
    if (std::find(names.begin(), names.end(), check.name) == names.end()) names.push_back(check.name);
  }
  return names;
}

Markup verdict(bool pass) {
  const std::string words = pass ? "agrees" : "differs";
  return element("span", {{"class", pass ? "verdict good" : "verdict bad"}, {"role", "img"}, {"aria-label", words}, {"title", words}},
                 text(pass ? "✓" : "✗"));
}

std::string exact_number(double value) {
  return std::isnan(value) ? "–" : std::abs(value) >= 1e-3 && std::abs(value) < 1e5 ? fmt::format("{:#.5g}", value) : short_number(value);
}

Markup check_table(const std::string& caption, const std::vector<Check>& checks) {
  std::vector<std::vector<Cell>> rows;
  for (const Check& c : checks) {
    rows.push_back({cell(c.setting),
                    {verdict(c.pass), false},
                    {text((c.at_most ? "≤ " : "") + exact_number(c.predicted))},
                    {text(exact_number(c.measured))},
                    cell(c.error > 0 ? c.error : kNone),  // where nothing is random
                    cell(c.error > 0 ? c.z : kNone)});
  }
  return table(caption, {"Setting", "", "Predicted", "Measured", "Standard error", "z"}, rows);
}

Markup agreement_chart(const std::vector<Check>& checks) {
  LineChart chart{.title = "Measured against predicted",
                  .caption = "Every check; on the dashed line the two are equal.",
                  .x = {.name = "predicted"},
                  .y = {.name = "measured"},
                  .series = {}};
  Series agree{.name = "agrees", .color = 0, .line = false}, differ{.name = "differs", .color = 1, .line = false};
  double low = INFINITY, high = -INFINITY;
  for (const Check& c : checks) {
    if (c.at_most) continue;
    Series& to = c.pass ? agree : differ;
    to.x.push_back(c.predicted);
    to.y.push_back(c.measured);
    if (std::isfinite(c.predicted)) low = std::min(low, c.predicted), high = std::max(high, c.predicted);
  }
  chart.series = {{.name = "equal", .x = {low, high}, .y = {low, high}, .color = 4, .dashed = true}, agree};
  if (!differ.x.empty()) chart.series.push_back(differ);
  chart.x.log = chart.y.log = low > 0 && high > 20 * low;
  return line_chart(chart);
}

Markup deviation_plot(std::vector<Check> checks) {
  // Where nothing is random, or there is no value to be equal to, there is no deviation.
  std::erase_if(checks, [](const Check& c) { return !std::isfinite(c.z) || c.at_most || c.error == 0; });
  DotPlot plot{.title = "How far off, in standard errors",
               .caption = "(measured − predicted) / standard error of each check; by chance alone 95 % lie within ±2.",
               .row_name = "check",
               .rows = names_of(checks),
               .value = {.name = "z", .unit = "standard errors", .low = -3, .high = 3},
               .groups = {},
               .zero = 0};
  std::map<std::string, size_t> used;
  for (const Check& c : checks) {
    const size_t place = used[c.name]++;
    if (place == plot.groups.size()) plot.groups.push_back({"", std::vector<double>(plot.rows.size(), kNone), Mark::kRing, 0});
    const auto row = std::find(plot.rows.begin(), plot.rows.end(), c.name) - plot.rows.begin();
    plot.groups[place].values[size_t(row)] = c.z;
  }
  return plot.groups.empty() ? Markup() : dot_plot(plot);
}

// The authors' own experiment: what is left of white noise of many variances.
Markup white_noise_chart(const Fields& study) {
  LineChart chart{.title = "The authors' experiment",
                  .caption = "White noise, upsampled: the share of its variance that is left, for each variance.",
                  .x = {.name = "variance before", .low = 0},
                  .y = {.name = "variance after / before"},
                  .series = {}};
  for (const Fields& point : study.objects("white_noise")) {
    const std::string name = fmt::format("ratio {:.0f}", point.number("ratio"));
    auto series = std::find_if(chart.series.begin(), chart.series.end(), [&](const Series& s) { return s.name == name; });
    if (series == chart.series.end()) series = chart.series.insert(series, {.name = name, .color = int(chart.series.size() % 8)});
    series->x.push_back(point.number("before"));
    series->y.push_back(point.number("after") / point.number("before"));
  }
  return chart.series.empty() ? Markup() : line_chart(chart);
}

// Of the levels in one mode, with SGD: what is left of each one's error, measured as marks on the predicted lines.
Markup speed_chart(const std::vector<Fields>& curves, const std::string& mode) {
  LineChart chart{.title = "SGD, " + mode,
                  .caption = "Lines are predicted, marks measured.",
                  .x = {.name = "step", .whole = true, .low = 0},
                  .y = {.name = "error left / at the start", .log = true, .high = 1},
                  .series = {}};
  std::vector<Series> lines;
  for (const Fields& c : curves) {
    if (c.words("mode") != mode || c.numbers("steps").empty()) continue;
    const int color = int(chart.series.size() % 8);
    chart.series.push_back(
        {fmt::format("deviation {:.2f}", c.number("deviation")), c.numbers("steps"), c.numbers("measured"), color, false, false, true});
    lines.push_back({"", c.numbers("steps"), c.numbers("predicted"), color, true});
  }
  chart.series.insert(chart.series.end(), lines.begin(), lines.end());
  return chart.series.empty() ? Markup() : line_chart(chart);
}

Section speed_section(const std::vector<Fields>& curves) {
  std::vector<std::string> header{"Optimizer", "Equalizer"}, names;
  std::vector<std::vector<Cell>> rows;
  for (const Fields& c : curves) {
    const std::string name = c.words("optimizer") + " " + c.words("mode");
    if (names.empty() || names.back() != name) {
      names.push_back(name);
      rows.push_back({cell(c.words("optimizer")), cell(c.words("mode"))});
    }
    if (rows.size() == 1) header.push_back(fmt::format("Deviation {:.2f}", c.number("deviation")));
    rows.back().push_back({text(whole_number(c.number("predicted_steps")) + " / " + whole_number(c.number("measured_steps")))});
  }
  const Markup words = paragraph(
      "A fusion layer learns a fixed linear mix of levels by least squares; every level has an equal part in what is to be learned. The "
      "smaller a "
      "level's deviation, the more slowly it is learned: at a speed that goes as the deviation's square with SGD, about as the deviation "
      "itself with "
      "AdamW. Explicit equalizers make all levels alike. Folding them into the initial weights does not, unless the optimizer steps in "
      "their units "
      "(folded_lr).");
  return {"learning", "How fast each level is learned",
          words + gallery({speed_chart(curves, "off"), speed_chart(curves, "explicit"), speed_chart(curves, "folded")}) +
              table("Steps until nine tenths of what a level has to learn are learned, predicted / measured", header, rows)};
}

}  // namespace

std::vector<Section> theory_sections(const Fields& study) {
  const std::vector<Check> checks = read_checks(study);
  if (checks.empty()) return {{"checks", "Checks", missing("the study has no checks.", "Run equiscale study theory.")}};
  std::vector<Section> sections = {
      {"agreement", "Agreement", gallery({agreement_chart(checks), deviation_plot(checks), white_noise_chart(study)})}};
  const std::vector<Fields> learning = study.objects("learning");
  if (!learning.empty()) sections.push_back(speed_section(learning));
  std::vector<Check> failed;
  std::copy_if(checks.begin(), checks.end(), std::back_inserter(failed), [](const Check& c) { return !c.pass; });
  for (Check& c : failed) c.setting = c.name + ", " + c.setting;
  if (!failed.empty()) {
    sections.push_back(
        {"failed", "What differs", check_table("Checks in which measurement and prediction differ by more than chance allows", failed)});
  }
  Section all{"checks", "Every check", {}};
  for (const std::string& name : names_of(checks)) {
    std::vector<Check> group;
    std::copy_if(checks.begin(), checks.end(), std::back_inserter(group), [&](const Check& c) { return c.name == name; });
    all.body += element("div", element("h3", text(name)) + check_table("", group));
  }
  sections.push_back(std::move(all));
  return sections;
}

}  // namespace eq::report
