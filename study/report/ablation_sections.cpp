// The page of a study of ablation: what each branch contributes, runs side by side.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "study/report/chart.h"
#include "study/report/study_sections.h"
#include "study/report/ticks.h"

namespace eq::report {
namespace {

std::vector<std::string> site_names(const std::vector<Fields>& runs) {
  std::vector<std::string> names;
  for (const Fields& run : runs) {
    for (const Fields& site : run.objects("sites")) {
      if (std::find(names.begin(), names.end(), site.words("site")) == names.end()) names.push_back(site.words("site"));
    }
  }
  return names;
}

// Rows: branches of the site; one mark for each run, or for each group of seeds.
Markup losses_plot(const std::vector<Fields>& runs, const std::string& name, bool seeds) {
  DotPlot plot{
      .title = name,
      .caption = seeds ? "What the mIoU loses when one branch is replaced by its mean, on the average of seeds. Lines: 95 % intervals "
                         "over the networks."
                       : "What the mIoU loses when one branch is replaced by its mean. Lines: 95 % intervals over the pictures.",
      .row_name = "branch",
      .rows = {},
      .value = {.name = "mIoU lost", .unit = "points", .low = 0},
      .groups = {},
      .zero = 0};
  for (size_t r = 0; r < runs.size(); ++r) {
    for (const Fields& site : runs[r].objects("sites")) {
      if (site.words("site") != name) continue;
      const std::vector<Fields> branches = site.objects("branches");
      for (const Fields& branch : branches) {
        if (std::find(plot.rows.begin(), plot.rows.end(), branch.words("name")) == plot.rows.end()) {
          plot.rows.push_back(branch.words("name"));
        }
      }
      DotPlot::Group group{runs[r].words(seeds ? "name" : "run"), std::vector<double>(plot.rows.size(), kNone),
                           kArmMarks[r % std::size(kArmMarks)], int(r % 8)};
      for (const Fields& branch : branches) {
        const auto row = std::find(plot.rows.begin(), plot.rows.end(), branch.words("name")) - plot.rows.begin();
        group.values[size_t(row)] = 100 * branch.number("lost");
        const std::vector<double> interval = branch.numbers("lost_interval");
        if (interval.size() == 2)
          plot.intervals.push_back({size_t(row), 100 * interval[0], 100 * interval[1], false, group.color, int(r % 3)});
      }
      plot.groups.push_back(std::move(group));
    }
  }
  for (DotPlot::Group& group : plot.groups) group.values.resize(plot.rows.size(), kNone);  // another run may have more branches
  return dot_plot(plot);
}

// Shares in points of mIoU; a dash where there is nothing.
Cell points_cell(double share) { return Cell{text(std::isnan(share) ? "–" : fmt::format("{:.2f}", 100 * share))}; }
Cell interval_cell(const std::vector<double>& interval) {
  return Cell{text(interval.size() == 2 ? fmt::format("{:.2f} … {:.2f}", 100 * interval[0], 100 * interval[1]) : "–")};
}

// The groups of seeds in numbers, the first as what the others are compared with.
Markup seeds_table(const std::vector<Fields>& groups) {
  std::vector<std::vector<Cell>> rows;
  for (const Fields& group : groups) {
    for (const Fields& site : group.objects("sites")) {
      for (const Fields& branch : site.objects("branches")) {
        rows.push_back({{text(group.words("name")), false},
                        {text(site.words("site")), false},
                        {text(branch.words("name")), false},
                        {text(fmt::format("{}", group.numbers("seeds").size()))},
                        points_cell(branch.number("lost")),
                        interval_cell(branch.numbers("lost_interval")),
                        points_cell(branch.number("change")),
                        interval_cell(branch.numbers("change_interval"))});
      }
    }
  }
  return table("Means over seeds",
               {"Networks", "Site", "Without", "Seeds", "Lost, points", "95 % interval over the networks",
                "Less what " + groups[0].words("name") + " loses", "95 % interval, seed by seed"},
               rows);
}

// What the plots show, in numbers, and the cross-entropy beside it.
Markup losses_table(const Fields& run) {
  std::vector<std::vector<Cell>> rows;
  const double whole = run.number("cross_entropy");
  for (const Fields& site : run.objects("sites")) {
    for (const Fields& branch : site.objects("branches")) {
      const double nats = branch.number("cross_entropy") - whole;
      rows.push_back({cell(site.words("site")),
                      cell(branch.words("name")),
                      points_cell(branch.number("miou")),
                      points_cell(branch.number("lost")),
                      interval_cell(branch.numbers("lost_interval")),
                      {text(std::isnan(nats) ? "–" : fmt::format("{:+.4f}", nats))}});
    }
  }
  return table(run.words("run"),
               {"Site", "Without", "mIoU %", "Lost, points", "95 % interval over the pictures", "Cross-entropy rises by, nats"}, rows);
}

// Rows: classes; a column for each branch.
Markup class_table(const Fields& run, const Fields& site) {
  const std::vector<Fields> branches = site.objects("branches");
  const std::vector<std::string> classes = run.strings("classes");
  const std::vector<double> whole = run.numbers("iou");
  std::vector<std::string> header = {"Class", "IoU"};
  for (const Fields& branch : branches) header.push_back("without " + branch.words("name"));
  std::vector<std::vector<Cell>> rows;
  const auto points = [](double value, bool sign) {
    return std::isfinite(value) ? Cell{text(sign ? fmt::format("{:+.2f}", 100 * value) : fmt::format("{:.2f}", 100 * value))} : cell(kNone);
  };
  for (size_t c = 0; c < std::min(classes.size(), whole.size()); ++c) {
    std::vector<Cell> row = {cell(classes[c]), points(whole[c], false)};
    for (const Fields& branch : branches) {
      const std::vector<double> without = branch.numbers("iou");
      row.push_back(points(c < without.size() ? without[c] - whole[c] : kNone, true));
    }
    rows.push_back(std::move(row));
  }
  return table(site.words("site") + ": IoU of the whole network, and what it changes by without a branch, in points", header, rows);
}

}  // namespace

std::vector<Section> ablation_sections(const Fields& study) {
  const std::vector<Fields> runs = study.objects("runs");
  if (runs.empty()) return {{"runs", "Runs", missing("the study has no runs.", "Run equiscale study ablation RUN.")}};
  std::vector<std::vector<Cell>> rows;
  for (const Fields& run : runs) {
    rows.push_back({cell(run.words("run")), {text(run.words("head")), false}, {text(run.words("equalizer")), false},
                    {text(fmt::format("{:.2f}", 100 * run.number("miou")))},
                    {text(std::isnan(run.number("cross_entropy")) ? "–" : fmt::format("{:.4f}", run.number("cross_entropy")))},
                    {text(whole_number(run.number("pictures")))}});
  }
  std::vector<Markup> figures;
  const std::vector<Fields> groups = study.objects("over_seeds");  // none in studies from before there was that
  const std::vector<Fields>& shown = groups.empty() ? runs : groups;
  for (const std::string& name : site_names(shown)) figures.push_back(losses_plot(shown, name, !groups.empty()));
  std::vector<Section> sections = {{"runs", "Runs", table("", {"Run", "Head", "Equalizer", "mIoU %", "Cross-entropy", "Pictures"}, rows)},
                                   {"branches", "What each branch contributes", gallery(figures)}};
  Markup numbers;
  if (!groups.empty()) numbers += seeds_table(groups);
  for (const Fields& run : runs) numbers += losses_table(run);
  sections.back().body += element("details", element("summary", text("All numbers")) + numbers);
  Section classes{"classes", "Class by class", {}};
  for (const Fields& run : runs) {
    Markup tables;
    for (const Fields& site : run.objects("sites")) tables += class_table(run, site);
    classes.body += element("details", element("summary", text(run.words("run"))) + tables);
  }
  sections.push_back(std::move(classes));
  return sections;
}

}  // namespace eq::report
