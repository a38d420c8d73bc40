// report.html of a study: which kind it is, its headline, and the kinds that are tables first: theory and claims.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "core/file.h"
#include "study/report/chart.h"
#include "study/report/report.h"
#include "study/report/study_sections.h"
#include "study/report/ticks.h"

namespace eq {
namespace report {
namespace {

namespace fs = std::filesystem;

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
                    cell(c.error),
                    cell(c.z)});
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

std::vector<Section> theory_sections(const Fields& study) {
  const std::vector<Check> checks = read_checks(study);
  if (checks.empty()) return {{"checks", "Checks", missing("the study has no checks.", "Run equiscale study theory.")}};
  std::vector<Section> sections = {
      {"agreement", "Agreement", gallery({agreement_chart(checks), deviation_plot(checks), white_noise_chart(study)})}};
  std::vector<Check> failed;
  std::copy_if(checks.begin(), checks.end(), std::back_inserter(failed), [](const Check& c) { return !c.pass; });
  for (Check& c : failed) c.setting = c.name + ", " + c.setting;
  if (!failed.empty())
    sections.push_back(
        {"failed", "What differs", check_table("Checks in which measurement and prediction differ by more than chance allows", failed)});
  Section all{"checks", "Every check", {}};
  for (const std::string& name : names_of(checks)) {
    std::vector<Check> group;
    std::copy_if(checks.begin(), checks.end(), std::back_inserter(group), [&](const Check& c) { return c.name == name; });
    all.body += element("div", element("h3", text(name)) + check_table("", group));
  }
  sections.push_back(std::move(all));
  return sections;
}

struct Verdict {
  const char *words, *css, *sign;
};
constexpr Verdict kVerdicts[] = {
    {"holds", "good", "✓"}, {"does not hold", "bad", "✗"}, {"not settled", "open", "?"}, {"not measured", "quiet", "–"}};

Markup verdict_badge(const std::string& words) {
  for (const Verdict& v : kVerdicts) {
    if (words == v.words) return element("span", {{"class", std::string("verdict ") + v.css}}, text(std::string(v.sign) + " " + words));
  }
  return element("span", {{"class", "verdict"}}, text(words));
}

// The study.json files that a claim rests on, relative to the folder around this study's own: as links to the pages beside them. Other
// words stay words.
Markup evidence(const std::string& words, const fs::path& folder) {
  Markup out;
  for (size_t begin = 0; begin < words.size();) {
    const size_t end = std::min(words.find(", ", begin), words.size());
    const fs::path file(words.substr(begin, end - begin));
    const fs::path page = fs::path("..") / file.parent_path() / "report.html";
    const bool there = file.filename() == "study.json" && file.is_relative() && fs::exists(folder / page);
    out += text(begin > 0 ? ", " : "") +
           (there ? element("a", {{"href", page.generic_string()}}, text(file.generic_string())) : text(file.generic_string()));
    begin = end + 2;
  }
  return out;
}

std::vector<Section> claims_sections(const Fields& study, const fs::path& folder) {
  std::vector<std::vector<Cell>> rows;
  for (const Fields& claim : study.objects("claims")) {
    const std::string measured = claim.words("measurement");
    rows.push_back(
        {{verdict_badge(claim.words("verdict")), false},
         {element("strong", text(claim.words("claim"))) + element("div", {{"class", "quiet"}}, text(claim.words("source"))), false},
         cell(measured.empty() ? "nothing yet" : measured),
         {evidence(claim.words("evidence"), folder), false}});
  }
  const Markup body = rows.empty() ? missing("the study has no claims.", "Run equiscale study claims.")
                                   : table("", {"Verdict", "Claim, and where it is made", "Measured", "Evidence"}, rows);
  return {{"claims", "Claims", element("div", {{"class", "claims"}}, body)}};
}

std::vector<Tile> tiles_of(const Fields& study, const std::string& kind) {
  std::vector<Tile> tiles;
  const auto count = [&](const char* key) { return grouped((long long)(study.objects(key).size())); };
  if (kind == "theory") {
    tiles = {{"Checks that agree", whole_number(study.number("passed")), ""},
             {"Checks that differ", whole_number(study.number("failed")), ""}};
  } else if (kind == "claims") {
    for (const Verdict& v : kVerdicts) {
      const auto claims = study.objects("claims");
      tiles.push_back(
          {v.words,
           std::to_string(std::count_if(claims.begin(), claims.end(), [&](const Fields& c) { return c.words("verdict") == v.words; })),
           "claims"});
    }
  } else if (kind == "run") {
    tiles = {{"Arms", count("arms"), ""}, {"Seeds", grouped((long long)(study.numbers("seeds").size())), ""}, {"Runs", count("runs"), ""}};
    const Fields cost = study.object("cost");
    if (cost.has("cpu_seconds")) tiles.push_back({"Processor time", duration(cost.number("cpu_seconds")), "h:mm:ss"});
  } else if (kind == "ablation") {
    tiles = {{"Runs", count("runs"), ""}};
  } else {
    tiles = {{"Records", count("records"), ""}};
  }
  if (study.has("seconds")) tiles.push_back({"Time", duration(study.number("seconds")), "h:mm:ss"});
  return tiles;
}

Section study_provenance(const Fields& study) {
  std::vector<std::vector<Cell>> rows;
  for (const auto& [key, name] : {std::pair{"command", "Command"}, {"version", "Version"}, {"device", "Device"}}) {
    if (!study.words(key).empty())
      rows.push_back({cell(name), {std::string(key) == "command" ? command_line(study.words(key)) : text(study.words(key)), false}});
  }
  Section section{"provenance", "Where it came from", table("What makes it again", {"", ""}, rows)};
  if (study.has("config")) {
    section.body += element("details", element("summary", text("The configuration that all arms share")) +
                                           element("pre", element("code", text(study.object("config").value().dump(2)))));
  }
  return section;
}

std::string study_page(const Fields& study, const fs::path& folder) {
  const std::string kind = study.words("kind");
  std::string title;
  std::vector<Section> sections;
  if (kind == "theory")
    title = "Closed forms against measurement", sections = theory_sections(study);
  else if (kind == "claims")
    title = "The paper's claims", sections = claims_sections(study, folder);
  else if (kind == "run")
    title = "Paired study", sections = paired_sections(study, folder);
  else if (kind == "scales")
    title = "Scales where levels are fused", sections = scale_sections(study);
  else if (kind == "gradients")
    title = "Gradients where levels are fused", sections = gradient_sections(study);
  else if (kind == "ablation")
    title = "What each branch contributes", sections = ablation_sections(study);
  else
    throw DataError("there is no study of kind \"" + kind + "\"", study.source(), "theory, scales, gradients, run, ablation or claims");
  sections.push_back(study_provenance(study));
  return page(title, command_line(study.words("command")), tiles(tiles_of(study, kind)), sections);
}

}  // namespace

}  // namespace report

std::filesystem::path write_study_report(const std::filesystem::path& folder) {
  const nlohmann::json study = report::read_json(folder / "study.json");
  write_text_atomically(folder / "report.html", report::study_page(report::Fields(study, (folder / "study.json").string()), folder));
  return folder / "report.html";
}

}  // namespace eq
