// report.html of a study: which kind it is, its headline, and the kind that is a table only: claims.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "core/file.h"
#include "study/report/report.h"
#include "study/report/study_sections.h"
#include "study/report/ticks.h"

namespace eq {
namespace report {
namespace {

namespace fs = std::filesystem;

struct VerdictStyle {
  const char *words, *css, *sign;
};
constexpr VerdictStyle kVerdictStyles[] = {
    {"holds", "good", "✓"}, {"does not hold", "bad", "✗"}, {"not settled", "open", "?"}, {"not measured", "quiet", "–"}};

Markup verdict_badge(const std::string& words) {
  for (const VerdictStyle& v : kVerdictStyles) {
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
    for (const VerdictStyle& v : kVerdictStyles) {
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
    title = "Scales where levels are fused", sections = scale_sections(study, folder);
  else if (kind == "gradients")
    title = "Gradients where levels are fused", sections = gradient_sections(study, folder);
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
