// What a trained network does: its classes, its errors, its pictures; and the scales and gradients at its fusion sites.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "study/report/chart.h"
#include "study/report/pictures.h"
#include "study/report/run_sections.h"
#include "study/report/ticks.h"
#include "training/refresh.h"

namespace eq::report {
namespace {

constexpr size_t kBarsInAChart = 40;

std::string class_name(const std::vector<std::string>& names, size_t index) {
  return index < names.size() ? names[index] : "class " + std::to_string(index);
}

Markup class_bars(const std::string& title, const std::string& caption, const std::string& value, const std::vector<ClassRow>& classes,
                  int color, const char* without, double (*percentage)(const ClassRow&)) {
  BarChart chart{
      .title = title, .caption = caption, .rows = "class", .value = {.name = value, .unit = "%", .low = 0, .high = 100}, .bars = {}};
  for (const ClassRow& c : classes) {
    const double share = percentage(c);
    chart.bars.push_back({c.name, share, std::isnan(share) ? without : fmt::format("{:.1f}", share), color});
  }
  return bar_chart(chart);
}

// Highest first; absent classes last, or only counted where there are many. Many classes in several charts.
std::vector<Markup> class_figures(std::vector<ClassRow> classes) {
  size_t absent = 0;
  if (classes.size() > kBarsInAChart) absent = std::erase_if(classes, [](const ClassRow& c) { return std::isnan(c.iou); });
  const std::string left_out = absent > 0 ? fmt::format(" {} classes that are neither labelled nor predicted are left out.", absent) : "";
  std::stable_sort(classes.begin(), classes.end(), [](const ClassRow& a, const ClassRow& b) {
    if (std::isnan(a.iou) || std::isnan(b.iou)) return !std::isnan(a.iou) && std::isnan(b.iou);
    return a.iou > b.iou;
  });
  std::vector<Markup> figures;
  for (size_t begin = 0; begin < classes.size(); begin += kBarsInAChart) {
    const size_t end = std::min(classes.size(), begin + kBarsInAChart);
    const std::vector<ClassRow> part(classes.begin() + std::ptrdiff_t(begin), classes.begin() + std::ptrdiff_t(end));
    const std::string places = classes.size() > kBarsInAChart ? fmt::format(", places {} to {}", begin + 1, end) : "";
    figures.push_back(class_bars("IoU of each class" + places, "Intersection over union, the highest first." + left_out, "IoU", part, 0,
                                 "absent", [](const ClassRow& c) { return 100 * c.iou; }));
    if (!places.empty()) continue;
    figures.push_back(class_bars("Found", "Of the pixels labelled so, how many are predicted so (recall).", "found", part, 2, "no labels",
                                 [](const ClassRow& c) { return 100 * c.acc; }));
    figures.push_back(class_bars("Right", "Of the pixels predicted so, how many are labelled so (precision).", "right", part, 3,
                                 "never predicted", [](const ClassRow& c) { return 100 * c.precision; }));
  }
  return figures;
}

Markup class_table(const EvaluationRow& evaluation) {
  double pixels = 0;
  for (const ClassRow& c : evaluation.classes) pixels += c.pixels;
  std::vector<std::vector<Cell>> rows;
  for (const ClassRow& c : evaluation.classes) {
    rows.push_back({cell(c.name),
                    {text(percent(c.iou))},
                    {text(percent(c.dice))},
                    {text(percent(c.acc))},
                    {text(percent(c.precision))},
                    {text(percent(c.pixels / pixels))}});
  }
  return table("In the data set's order. Found: labelled pixels that are predicted so; right: predicted pixels that are labelled so.",
               {"Class", "IoU", "Dice", "Found", "Right", "Share of pixels"}, rows);
}

struct Mistake {
  size_t label, prediction;
  double pixels, share;  // of the label's pixels
};

// Of many classes those that have labels, and one column more for all others.
Confusion labelled_part(const Confusion& all) {
  if (all.counts.size() <= kBarsInAChart) return all;
  std::vector<size_t> kept;
  for (size_t r = 0; r < all.counts.size(); ++r) {
    if (std::any_of(all.counts[r].begin(), all.counts[r].end(), [](double count) { return count > 0; })) kept.push_back(r);
  }
  if (kept.size() == all.counts.size()) return all;
  Confusion part;
  for (const size_t r : kept) {
    part.names.push_back(class_name(all.names, r));
    std::vector<double>& row = part.counts.emplace_back();
    double others = 0;
    for (const double count : all.counts[r]) others += count;
    for (const size_t c : kept) row.push_back(all.counts[r][c]), others -= all.counts[r][c];
    row.push_back(std::max(0.0, others));
  }
  part.names.push_back("no labels");
  return part;
}

Markup mistakes_table(const Confusion& confusion) {
  std::vector<Mistake> mistakes;
  double total = 0;
  for (size_t r = 0; r < confusion.counts.size(); ++r) {
    double labelled = 0;
    for (const double count : confusion.counts[r]) labelled += count;
    total += labelled;
    for (size_t c = 0; c < confusion.counts[r].size(); ++c) {
      if (r != c && confusion.counts[r][c] > 0) mistakes.push_back({r, c, confusion.counts[r][c], confusion.counts[r][c] / labelled});
    }
  }
  std::stable_sort(mistakes.begin(), mistakes.end(), [](const Mistake& a, const Mistake& b) { return a.pixels > b.pixels; });
  std::vector<std::vector<Cell>> rows;
  for (size_t i = 0; i < std::min<size_t>(10, mistakes.size()); ++i) {
    const Mistake& m = mistakes[i];
    rows.push_back({cell(class_name(confusion.names, m.label)),
                    cell(class_name(confusion.names, m.prediction)),
                    {text(percent(m.share))},
                    {text(percent(m.pixels / total, 2))}});
  }
  if (rows.empty()) return paragraph("No labelled pixel is wrong.");
  return table("The mistakes that cost the most pixels", {"Labelled", "Predicted", "of the label's pixels", "of all pixels"}, rows);
}

Markup shown_pictures(const RunFiles& run, const std::vector<ShownPicture>& shown) {
  Markup all;
  for (const ShownPicture& one : shown) {
    const auto row = std::find_if(run.pictures.begin(), run.pictures.end(), [&](const PictureRow& p) { return p.index == one.index; });
    const bool named = row != run.pictures.end() && row->name.find_first_not_of("0123456789") != std::string::npos;
    const std::string name = named ? row->name : fmt::format("Picture {}", one.index);
    const std::string numbers =
        row == run.pictures.end() ? "" : fmt::format("mIoU {}, {} of the pixels right", percent(row->miou), percent(row->accuracy));
    all += element("figure", {{"class", "shown"}},
                   element("figcaption", element("strong", text(name)) + text(numbers)) +
                       panels(one.file, {"picture", "labels", "prediction", "errors in red"}, name));
  }
  return all;
}

// The histories of the sites, in the order of the last record.
std::vector<SiteHistory> histories(const RunFiles& run) {
  const std::vector<ProbeRecord>& probes = run.probes;
  std::vector<SiteHistory> all;
  for (const SiteRecord& site : probes.back().sites) {
    SiteHistory history;
    for (const ProbeRecord& probe : probes) {
      const auto found = std::find_if(probe.sites.begin(), probe.sites.end(), [&](const SiteRecord& s) { return s.site == site.site; });
      if (found == probe.sites.end()) continue;
      history.iterations.push_back(double(probe.iteration));
      history.records.push_back(*found);
    }
    all.push_back(std::move(history));
  }
  return all;
}

Markup calibration_figures(const RunFiles& run) {
  std::vector<std::string> sites;
  for (const Calibrated& c : run.calibrated) {
    if (std::find(sites.begin(), sites.end(), c.site) == sites.end()) sites.push_back(c.site);
  }
  std::vector<Markup> figures;
  for (const std::string& site : sites) {
    BarChart chart{.title = "Calibrated scale: " + site,
                   .caption = "",
                   .rows = "branch",
                   .value = {.name = "standard deviation after resizing", .low = 0},
                   .bars = {}};
    for (const Calibrated& c : run.calibrated) {
      if (c.site != site) continue;
      const bool known = std::isfinite(c.std_error);
      if (known) chart.caption = "With standard errors over the batches that were measured.";
      chart.bars.push_back({c.branch, c.std,
                            short_number(c.std) + (known ? " ± " + short_number(c.std_error) : "") +
                                (c.floored     ? ", raised to the floor"
                                 : c.equalized ? ""
                                               : ", left as it is"),
                            c.equalized ? 0 : 4});
    }
    figures.push_back(bar_chart(chart));
  }
  return gallery(figures);
}

// How the scales have moved away from those before training: a row for each branch that is equalized.
Markup refresh_table(const RunFiles& run) {
  std::vector<std::vector<Cell>> rows;
  for (const Calibrated& first : run.calibrated) {
    if (!first.equalized) continue;
    const Calibrated* last = nullptr;
    double most = 1;
    for (const Refreshed& refresh : run.refreshes) {
      for (const Calibrated& b : refresh.branches) {
        if (b.site != first.site || b.branch != first.branch) continue;
        last = &b;
        if (farther_from_one(b.growth, most)) most = b.growth;
      }
    }
    if (last == nullptr) continue;
    rows.push_back({cell(first.site), cell(first.branch), cell(first.mean), cell(last->mean), cell(first.std), cell(last->std),
                    cell(last->std / first.std), cell(most)});
  }
  return table(fmt::format("Measured before training, and anew {} times, last after iteration {:.0f}. What the network computes did "
                           "not change, only the units in which its fusion weights are stepped.",
                           run.refreshes.size(), run.refreshes.back().iteration),
               {"Site", "Branch", "Mean, first", "Mean, last", "Std, first", "Std, last", "Last / first", "Largest change at once"}, rows);
}

Markup ratio_chart(const std::vector<SiteHistory>& sites) {
  LineChart chart{.title = "Imbalance of the fusion gradients",
                  .caption =
                      "Root mean square of the gradient per weight: that of the branch with the largest over that of the branch with the "
                      "smallest. 1 is balance.",
                  .x = {.name = "iteration", .whole = true, .low = 0},
                  .y = {.name = "largest / smallest", .log = true, .low = 1},
                  .series = {}};
  for (const SiteHistory& site : sites) {
    Series series{.name = site.records.back().site, .x = site.iterations, .color = int(chart.series.size() % 8)};
    for (const SiteRecord& record : site.records) series.y.push_back(record.grad_ratio);
    if (std::any_of(series.y.begin(), series.y.end(), [](double v) { return std::isfinite(v); })) chart.series.push_back(std::move(series));
  }
  return chart.series.empty() ? Markup() : gallery({line_chart(chart)});
}

}  // namespace

Section classes_section(const RunFiles& run) {
  Section section{"classes", "Classes", {}};
  if (run.evaluations.empty()) {
    section.body = missing("no evaluation has been made yet.", "It follows the last iteration; train.evaluate_every asks for more.");
    return section;
  }
  const EvaluationRow& last = run.evaluations.back();
  section.body =
      gallery(class_figures(last.classes)) + element("details", element("summary", text("All numbers of the classes")) + class_table(last));
  return section;
}

Section confusion_section(const RunFiles& run) {
  Section section{"confusion", "Confusions", {}};
  if (!run.confusion) {
    section.body = missing("eval/confusion.csv.", "The trainer writes it after the last evaluation.");
    return section;
  }
  const Confusion shown = labelled_part(*run.confusion);
  const size_t left_out = run.confusion->counts.size() - shown.counts.size();
  HeatMap map{
      .title = "Where the pixels of each class go",
      .caption =
          std::string(
              "Each row is a labelled class and adds up to 100 %; the diagonal is what was found. The colour follows the square root, "
              "so that small shares are seen.") +
          (left_out > 0
               ? fmt::format(" {} classes without a label have no row; what is predicted as one of them is the last column.", left_out)
               : ""),
      .x = {.name = "predicted"},
      .y = {.name = "labelled"},
      .value = {.name = "of the label's pixels", .unit = "%", .low = 0, .high = 1},
      .rows = {shown.names.begin(), shown.names.begin() + std::ptrdiff_t(shown.counts.size())},
      .columns = shown.names,
      .values = shown.counts,
      .root = true,
      .as_percent = true};
  for (auto& row : map.values) {
    double sum = 0;
    for (const double count : row) sum += count;
    for (double& count : row) count = sum > 0 ? count / sum : kNone;
  }
  section.body = element("div", {{"class", "beside"}}, heat_map(map) + mistakes_table(*run.confusion));
  return section;
}

Section pictures_section(const RunFiles& run) {
  Section section{"pictures", "Best and worst pictures", {}};
  if (run.best.empty() && run.worst.empty()) {
    section.body = missing("eval/best_*.png and eval/worst_*.png.",
                           "The trainer writes them after the last evaluation, unless train.overlays is 0 or there is only one picture.");
    return section;
  }
  section.body = paragraph(
      fmt::format("By mean IoU over the classes in each picture, of {} pictures. Pixels without a label are cream.", run.pictures.size()));
  if (!run.class_names.empty()) section.body += class_legend(run.class_names, run.palette);
  section.body +=
      element("h3", text("Best")) + shown_pictures(run, run.best) + element("h3", text("Worst")) + shown_pictures(run, run.worst);
  return section;
}

Section scales_section(const RunFiles& run) {
  Section section{"scales", "Scales where levels are fused", {}};
  if (!run.calibrated.empty() && run.probes.empty()) {
    section.body += paragraph(fmt::format("Measured before training over {} {}, after resizing; the equalizers divide by these.",
                                          whole_number(run.calibration_batches), run.calibration_batches == 1 ? "batch" : "batches"));
    section.body += calibration_figures(run);
  }
  if (!run.refreshes.empty()) section.body += refresh_table(run);
  if (run.probes.empty()) {
    section.body += missing("probes.jsonl: the scales were not recorded during training.", train_with("probes.every", "50"));
    return section;
  }
  Markup sums;
  section.body += paragraph(
      "Standard deviation over all values of a branch: as it arrives at the site, after bilinear resizing to the site's size, and as it "
      "enters the fusion layer.");
  for (const SiteHistory& site : histories(run)) {
    const SiteRecord& last = site.records.back();
    (last.kind == "sum" ? sums : section.body) += element("h3", text(site_title(last))) + scale_figures(site, run.calibrated);
  }
  if (!sums.empty()) section.body += element("details", element("summary", text("Sites where branches are added")) + sums);
  return section;
}

Section gradients_section(const RunFiles& run) {
  Section section{"gradients", "Gradients where levels are fused", {}};
  if (run.probes.empty()) {
    section.body = missing("probes.jsonl: the gradients were not recorded.", train_with("probes.every", "50"));
    return section;
  }
  const std::vector<SiteHistory> sites = histories(run);
  section.body = ratio_chart(sites);
  std::vector<Markup> sums;
  for (const SiteHistory& site : sites) {
    const SiteRecord& last = site.records.back();
    if (last.kind != "sum") {
      section.body += element("h3", text(site_title(last))) + gradient_figures(site);
      continue;
    }
    for (const Markup& figure : gradient_charts(site, last.site)) sums.push_back(figure);
  }
  if (!sums.empty()) section.body += element("h3", text("Gradient sent back to each branch where branches are added")) + gallery(sums);
  return section;
}

}  // namespace eq::report
