#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "study/report/svg.h"

namespace eq::report {
namespace {

using namespace svg;

constexpr double kRow = 30, kTop = 22, kMostLabel = 118;

struct Layout {
  const Scale& x;
  double row(size_t index) const { return kTop + kRow * (double(index) + 0.5); }
};

Markup intervals_of(const DotPlot& plot, const Layout& at) {
  Markup out;
  for (const auto& interval : plot.intervals) {
    if (!at.x.shows(interval.low) || !at.x.shows(interval.high) || interval.row >= plot.rows.size()) continue;
    const std::string css = fmt::format("{} stroke{}", interval.thick ? "thick" : "line", interval.color);
    // The two kinds lie above each other, so that the thin one is never hidden by the thick one.
    const double y = at.row(interval.row) + (interval.thick ? 0 : 7 + 3 * interval.lane);
    out += segment(at.x(interval.low), y, at.x(interval.high), y, css);
  }
  return out;
}

std::string connection(const DotPlot::Group& group, const Layout& at) {
  std::string path;
  for (size_t row = 0; row < group.values.size(); ++row) {
    if (!at.x.shows(group.values[row])) continue;
    path += fmt::format("{}{} {}", path.empty() ? "M" : "L", number(at.x(group.values[row])), number(at.row(row)));
  }
  return path;
}

std::vector<LegendEntry> legend_of(const DotPlot& plot) {
  std::vector<LegendEntry> legend;
  for (const auto& group : plot.groups) {
    if (!group.name.empty()) legend.push_back({group.name, mark(group.mark, 13, 6, group.color)});
  }
  const int color = plot.intervals.empty() ? 0 : plot.intervals.front().color;
  if (!plot.thick_name.empty()) legend.push_back({plot.thick_name, segment(1, 6, 25, 6, "thick stroke" + std::to_string(color))});
  if (!plot.thin_name.empty()) legend.push_back({plot.thin_name, segment(1, 6, 25, 6, "line stroke" + std::to_string(color))});
  return legend;
}

}  // namespace

Markup dot_plot(const DotPlot& plot) {
  std::vector<double> values;
  for (const auto& group : plot.groups) values.insert(values.end(), group.values.begin(), group.values.end());
  for (const auto& interval : plot.intervals) values.insert(values.end(), {interval.low, interval.high});
  if (plot.zero && !values.empty()) values.push_back(*plot.zero);
  std::vector<std::vector<std::string>> labels;
  double widest = 0;
  for (const std::string& row : plot.rows) {
    labels.push_back(two_lines(row, kMostLabel));
    widest = std::max(widest, label_width(labels.back()));
  }
  const double left = widest + 10, bottom = kTop + kRow * double(plot.rows.size());
  const Scale x(plot.value, values, left, kWidth - 10, 5);
  if (x.empty() || plot.rows.empty()) return nothing_to_show(plot.title);
  const Layout at{x};

  Markup content = horizontal_axis(plot.value, x, bottom, kTop) + text_at(0, kTop - 9, Anchor::kStart, "axis-name", plot.row_name);
  std::string words = axis_title(plot.value) + " for each " + plot.row_name + ".";
  for (size_t i = 0; i < labels.size(); ++i) {
    content += segment(left, at.row(i), kWidth - 10, at.row(i), "grid");
    Markup label = tooltip(plot.rows[i]);
    for (size_t line = 0; line < labels[i].size(); ++line) {
      label += text_at(left - 8, at.row(i) + 4 + 12 * (double(line) - double(labels[i].size() - 1) / 2), Anchor::kEnd, "", labels[i][line]);
    }
    content += element("g", label);
    words += " " + plot.rows[i] + ":";
    for (const auto& group : plot.groups) {
      if (i < group.values.size() && std::isfinite(group.values[i]))
        words += " " + group.name + (group.name.empty() ? "" : " ") + short_number(group.values[i]) + ",";
    }
    words.back() = words.back() == ',' ? '.' : words.back();
  }
  if (plot.zero) content += segment(x(*plot.zero), kTop, x(*plot.zero), bottom, "base");
  content += intervals_of(plot, at);
  for (const auto& group : plot.groups) {
    if (group.connected)
      content += element("path", {{"d", connection(group, at)}, {"class", "line pale stroke" + std::to_string(group.color)}});
  }
  for (const auto& group : plot.groups) {
    for (size_t row = 0; row < std::min(group.values.size(), plot.rows.size()); ++row) {
      if (!x.shows(group.values[row])) continue;
      const std::string words_here =
          plot.rows[row] + (group.name.empty() ? "" : ", " + group.name) + ": " + short_number(group.values[row]);
      content += element("g", tooltip(words_here) + mark(group.mark, x(group.values[row]), at.row(row), group.color));
    }
  }
  return figure(plot.title, plot.caption, legend_of(plot), {bottom + 34, content, words});
}

}  // namespace eq::report
