#include "study/report/sites.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "study/report/chart.h"
#include "study/report/ticks.h"

namespace eq::report {
namespace {

int64_t read_extent(const Fields& fields, const char* key) {
  const double value = fields.number(key);
  return value >= 0 && value <= 1e9 ? int64_t(value) : 0;
}

BranchRecord read_branch(const Fields& fields) {
  BranchRecord branch;
  branch.name = fields.words("name");
  branch.channels = read_extent(fields, "channels");
  branch.height = read_extent(fields, "height");
  branch.width = read_extent(fields, "width");
  branch.upsampled = fields.flag("upsampled");
  for (const BranchNumber& number : branch_numbers()) {
    number.of(branch) = (number.group ? fields.object(number.group) : fields).number(number.key);
  }
  return branch;
}

// One line per branch over the iterations, of any of its numbers.
template <class Value>
std::vector<Series> branch_series(const SiteHistory& site, Value value) {
  std::vector<Series> all;
  const SiteRecord& last = site.records.back();
  for (size_t b = 0; b < last.branches.size(); ++b) {
    Series series{.name = last.branches[b].name, .x = site.iterations, .color = int(b % 8)};
    for (const SiteRecord& record : site.records) series.y.push_back(b < record.branches.size() ? value(record.branches[b]) : kNone);
    all.push_back(std::move(series));
  }
  return all;
}

bool any_finite(const std::vector<Series>& all) {
  return std::any_of(all.begin(), all.end(),
                     [](const Series& s) { return std::any_of(s.y.begin(), s.y.end(), [](double v) { return std::isfinite(v); }); });
}

// Variance factors over time, with what white noise would keep as dashed guides.
Markup factor_chart(const SiteHistory& site) {
  LineChart chart{.title = "Variance kept by resizing",
                  .caption =
                      "Variance after resizing over variance before. Dashed: white noise, that is, pixels without correlation; smooth "
                      "features keep more.",
                  .x = kIterations,
                  .y = {.name = "variance kept", .unit = "1 = all", .low = 0, .high = 1},
                  .series = {}};
  std::vector<Series> guides;
  const std::vector<Series> measured = branch_series(site, [](const BranchRecord& b) { return b.measured_factor; });
  for (size_t b = 0; b < measured.size(); ++b) {
    const BranchRecord& branch = site.records.back().branches[b];
    if (!branch.upsampled || !any_finite({measured[b]})) continue;
    const double white = branch.white_noise_factor;
    chart.series.push_back(measured[b]);
    if (!std::isfinite(white)) continue;
    guides.push_back(
        {.x = {site.iterations.front(), site.iterations.back()}, .y = {white, white}, .color = measured[b].color, .dashed = true});
  }
  if (chart.series.empty()) return {};
  if (!guides.empty()) guides.front().name = "white noise";
  chart.series.insert(chart.series.end(), guides.begin(), guides.end());
  return line_chart(chart);
}

// Empty where no value was recorded.
Markup over_time(const SiteHistory& site, const std::string& title, const std::string& caption, Axis y,
                 double (*value)(const BranchRecord&)) {
  LineChart chart{.title = title, .caption = caption, .x = kIterations, .y = std::move(y), .series = branch_series(site, value)};
  return any_finite(chart.series) ? line_chart(chart) : Markup();
}

// Nothing is equalized.
bool fused_as_resized(const SiteRecord& site) {
  return std::all_of(site.branches.begin(), site.branches.end(), [](const BranchRecord& b) {
    return !std::isfinite(b.fused.std) || std::abs(b.fused.std - b.resized.std) <= 1e-6 * b.resized.std;
  });
}

}  // namespace

std::string site_title(const SiteRecord& site) {
  const std::string kind = site.kind == "sum" ? "branches are added" : site.kind == "concat" ? "branches are concatenated" : site.kind;
  return site.site + (kind.empty() ? "" : ": " + kind);
}

SiteRecord read_site(const Fields& fields) {
  SiteRecord site;
  site.site = fields.words("site");
  site.kind = fields.words("kind");
  site.height = read_extent(fields, "height");
  site.width = read_extent(fields, "width");
  site.depthwise = fields.flag("depthwise");
  site.grad_ratio = fields.number("grad_ratio");
  for (const Fields& branch : fields.objects("branches")) site.branches.push_back(read_branch(branch));
  return site;
}

double largest_scale(const SiteRecord& site) {
  double largest = kNone;
  for (const BranchRecord& b : site.branches) {
    for (double std : {b.before.std, b.resized.std, b.fused.std}) largest = std::fmax(largest, std);
  }
  return largest;
}

Markup scale_snapshot(const SiteRecord& site, double high, const std::string& title, const std::string& caption) {
  const bool unchanged = fused_as_resized(site);
  DotPlot plot{.title = title, .caption = caption, .row_name = "branch", .value = {.name = "standard deviation", .low = 0}};
  if (std::isfinite(high)) plot.value.high = high;
  DotPlot::Group before{"as it arrives", {}, Mark::kRing, 4},
      resized{site.kind == "sum" ? "resized, as added"
              : unchanged        ? "resized, and so fused"
                                 : "resized",
              {},
              Mark::kDot,
              0},
      fused{"equalized, as fused", {}, Mark::kDiamond, 1}, white{"white noise, resized", {}, Mark::kTick, 2};
  for (const BranchRecord& branch : site.branches) {
    plot.rows.push_back(branch.name);
    before.values.push_back(branch.before.std);
    resized.values.push_back(branch.resized.std);
    fused.values.push_back(branch.fused.std);
    white.values.push_back(branch.before.std * std::sqrt(branch.upsampled ? branch.white_noise_factor : kNone));
  }
  plot.groups = {before, white, resized};
  if (!unchanged) plot.groups.push_back(fused);
  return dot_plot(plot);
}

Markup scale_table(const SiteRecord& site, const std::string& caption, const std::vector<Calibrated>& calibrated) {
  std::vector<std::vector<Cell>> rows;
  const bool unchanged = fused_as_resized(site);
  for (const BranchRecord& b : site.branches) {
    const double total = b.within_image + b.between_images + b.between_channels;
    const auto part = [&](double variance) { return Cell{text(percent(variance / total, 0))}; };
    const auto found =
        std::find_if(calibrated.begin(), calibrated.end(), [&](const Calibrated& c) { return c.site == site.site && c.branch == b.name; });
    const double fused_mean = unchanged ? kNone : b.fused.mean, fused_std = unchanged ? kNone : b.fused.std;
    const bool constants = found != calibrated.end() && found->equalized;
    rows.push_back({cell(b.name),
                    {text(fmt::format("{}×{}", b.height, b.width))},
                    {text(std::to_string(b.channels))},
                    cell(b.resized.mean),
                    cell(b.before.std),
                    cell(b.resized.std),
                    cell(fused_mean),
                    cell(fused_std),
                    cell(constants ? found->mean : kNone),
                    cell(constants ? found->std : kNone),
                    cell(constants ? found->std_error : kNone),
                    part(b.within_image),
                    part(b.between_images),
                    part(b.between_channels),
                    cell(b.lag_one),
                    cell(b.upsampled ? b.measured_factor : kNone),
                    cell(b.upsampled ? b.predicted_factor : kNone),
                    cell(b.upsampled ? b.white_noise_factor : kNone)});
  }
  return table(
      caption,
      {"Branch", "Size", "Channels", "Mean", "Std arriving", "Std resized", "Mean fused", "Std fused", "Calibrated mean", "Calibrated std",
       "Its standard error", "Within image", "Between images", "Between channels", "Lag-one correlation", "Variance kept", "Predicted from it", "White noise"},
      rows);
}

Markup gradient_table(const SiteRecord& site, const std::string& caption) {
  std::vector<std::vector<Cell>> rows;
  for (const BranchRecord& b : site.branches) {
    rows.push_back({cell(b.name),
                    cell(b.weight_grad),
                    cell(b.weight_grad_rms),
                    {text(percent(b.weight_grad_share))},
                    cell(b.update_ratio),
                    cell(b.input_grad),
                    cell(b.fused.std)});
  }
  return table(caption,
               {"Branch", "Gradient of its weights", "Per weight (RMS)", "Share", "Update / weight", "Gradient sent back to the branch",
                "Std fused"},
               rows);
}

Markup scale_figures(const SiteHistory& site, const std::vector<Calibrated>& calibrated) {
  const SiteRecord& last = site.records.back();
  const auto at = [](double iteration) { return fmt::format("iteration {:.0f}", iteration); };
  const double high = std::fmax(largest_scale(site.records.front()), largest_scale(last));
  std::vector<Markup> figures = {scale_snapshot(site.records.front(), high, "Scale of each branch, " + at(site.iterations.front()),
                                                "The green ticks are where resizing would leave white noise of the arriving scale.")};
  if (site.records.size() > 1) {
    figures.push_back(scale_snapshot(last, high, "Scale of each branch, " + at(site.iterations.back()), "The same, at the last record."));
    figures.push_back(factor_chart(site));
    figures.push_back(over_time(site, "Scale as it arrives", "Before resizing.", {.name = "standard deviation", .low = 0},
                                [](const BranchRecord& b) { return b.before.std; }));
    figures.push_back(over_time(site, "Scale after resizing", "What the site would fuse without equalizers.",
                                {.name = "standard deviation", .low = 0}, [](const BranchRecord& b) { return b.resized.std; }));
    if (!fused_as_resized(last)) {
      figures.push_back(over_time(site, "Scale as fused", "After the equalizers: what the fusion layer gets.",
                                  {.name = "standard deviation", .low = 0}, [](const BranchRecord& b) { return b.fused.std; }));
    }
  }
  return gallery(figures) +
         scale_table(last, "At " + at(site.iterations.back()) + ". Parts of the variance are those after resizing.", calibrated);
}

std::vector<Cell> ratio_change_row(const Fields& change) {
  const std::vector<double> interval = change.numbers("t_interval");
  return {cell(change.words("site")), cell(change.words("arm") + " / " + change.words("baseline")), cell(change.number("mean")),
          {text(interval.size() == 2 ? short_number(interval[0]) + " … " + short_number(interval[1]) : "–")}};
}

std::vector<Markup> gradient_charts(const SiteHistory& site, const std::string& title_of_arriving) {
  std::vector<Markup> figures;
  figures.push_back(over_time(site, "Gradient of the fusion weight",
                              "Per weight: root mean square over each branch's slice, so that wide and narrow branches compare.",
                              {.name = "gradient per weight", .log = true}, [](const BranchRecord& b) { return b.weight_grad_rms; }));
  figures.push_back(over_time(site, "How far a step moves each slice", "Norm of the update over norm of the weight.",
                              {.name = "update / weight", .log = true}, [](const BranchRecord& b) { return b.update_ratio; }));
  figures.push_back(over_time(site, title_of_arriving, "Norm at the branch's own size, before resizing.",
                              {.name = "gradient norm", .log = true}, [](const BranchRecord& b) { return b.input_grad; }));
  std::erase_if(figures, [](const Markup& figure) { return figure.empty(); });
  return figures;
}

Markup gradient_figures(const SiteHistory& site) {
  const std::vector<Markup> figures = gradient_charts(site, "Gradient sent back to each branch");
  if (figures.empty()) return missing("no gradient was recorded at this site.", "");
  return gallery(figures) + gradient_table(site.records.back(), fmt::format("At iteration {:.0f}.", site.iterations.back()));
}

}  // namespace eq::report
