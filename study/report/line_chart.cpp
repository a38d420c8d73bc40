#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "study/report/svg.h"

namespace eq::report {
namespace {

using namespace svg;

constexpr size_t kMostPoints = 300;
constexpr Mark kShapes[] = {Mark::kDot, Mark::kRing, Mark::kDiamond, Mark::kSquare, Mark::kTriangle};
constexpr double kHeight = 212, kPlotTop = 22, kBottom = kHeight - 34;

struct Points {
  std::vector<double> x, y;
  size_t together = 1;  // how many recorded values a point is the mean of
};

Points thinned(const Series& series) {
  const size_t count = std::min(series.x.size(), series.y.size());
  Points out;
  out.together = (count + kMostPoints - 1) / kMostPoints;
  if (out.together <= 1)
    return {{series.x.begin(), series.x.begin() + std::ptrdiff_t(count)}, {series.y.begin(), series.y.begin() + std::ptrdiff_t(count)}, 1};
  for (size_t begin = 0; begin < count; begin += out.together) {
    double x = 0, y = 0, finite = 0;
    for (size_t i = begin; i < std::min(count, begin + out.together); ++i) {
      if (!std::isfinite(series.y[i])) continue;
      x += series.x[i];
      y += series.y[i];
      finite += 1;
    }
    out.x.push_back(finite > 0 ? x / finite : kNone);
    out.y.push_back(finite > 0 ? y / finite : kNone);
  }
  return out;
}

// The line as one path, with a gap where a value is missing.
std::string path_of(const Points& points, const Scale& x, const Scale& y) {
  std::string path;
  bool drawing = false;
  for (size_t i = 0; i < points.x.size(); ++i) {
    if (!x.shows(points.x[i]) || !y.shows(points.y[i])) {
      drawing = false;
      continue;
    }
    path += fmt::format("{}{} {}", drawing ? "L" : "M", number(x(points.x[i])), number(y(points.y[i])));
    drawing = true;
  }
  return path;
}

// Every point of a short series, else about six of them, not at the same places for all series.
Markup marks_of(const Points& points, const Series& series, size_t index, const Scale& x, const Scale& y) {
  std::vector<size_t> shown;
  for (size_t i = 0; i < points.x.size(); ++i) {
    if (x.shows(points.x[i]) && y.shows(points.y[i])) shown.push_back(i);
  }
  const bool all = !series.line || shown.size() <= 12;
  const size_t every = all ? 1 : shown.size() / 6;
  Markup out;
  for (size_t k = all ? 0 : (index * every / 4) % every; k < shown.size(); k += every) {
    out += mark(kShapes[index % std::size(kShapes)], x(points.x[shown[k]]), y(points.y[shown[k]]), series.color);
  }
  return out;
}

std::string words_of(const Points& points, const std::string& name) {
  double low = INFINITY, high = -INFINITY, first = kNone, last = kNone;
  for (const double y : points.y) {
    if (!std::isfinite(y)) continue;
    if (std::isnan(first)) first = y;
    last = y;
    low = std::min(low, y);
    high = std::max(high, y);
  }
  if (std::isnan(first)) return name + ": no values.";
  return fmt::format("{}: from {} to {}, lowest {}, highest {}.", name, short_number(first), short_number(last), short_number(low),
                     short_number(high));
}

}  // namespace

Markup line_chart(const LineChart& chart) {
  std::vector<Points> points;
  std::vector<double> all_x, all_y;
  size_t together = 1;
  for (const Series& series : chart.series) {
    points.push_back(thinned(series));
    together = std::max(together, points.back().together);
    all_y.insert(all_y.end(), points.back().y.begin(), points.back().y.end());
    for (size_t i = 0; i < points.back().x.size(); ++i) {
      if (std::isfinite(points.back().y[i])) all_x.push_back(points.back().x[i]);
    }
  }
  const Scale y(chart.y, all_y, kBottom, kPlotTop, 6);
  if (y.empty()) return nothing_to_show(chart.title);
  const double left = label_width(y.ticks().labels) + 8;
  const Scale x(chart.x, all_x, left, kWidth - 6, 6);
  if (x.empty()) return nothing_to_show(chart.title);

  Markup content = vertical_axis(chart.y, y, left, kWidth - 6) + horizontal_axis(chart.x, x, kBottom, kBottom - 4);
  std::vector<LegendEntry> legend;
  std::string words = axis_title(chart.y) + " over " + axis_title(chart.x) + ".";
  for (size_t i = 0; i < chart.series.size(); ++i) {
    const Series& series = chart.series[i];
    const bool marks = !series.dashed && (series.marks || !series.line || chart.series.size() > 1 || points[i].x.size() <= 2);
    if (series.line) {
      const std::string css = fmt::format("line {}stroke{}", series.dashed ? "dashed " : "", series.color);
      content += element("path", {{"d", path_of(points[i], x, y)}, {"class", css}});
    }
    if (marks) content += marks_of(points[i], series, i, x, y);
    if (series.name.empty()) continue;
    legend.push_back({series.name, line_sample(series.color, series.dashed, series.line,
                                               marks ? mark(kShapes[i % std::size(kShapes)], 13, 6, series.color) : Markup())});
    words += fmt::format(" {}", words_of(points[i], series.name));
  }
  if (legend.size() == 1) legend.clear();  // the axis names it
  std::string caption = chart.caption;
  if (together > 1) caption += (caption.empty() ? "" : " ") + fmt::format("Each point is the mean of {} records.", together);
  return figure(chart.title, caption, legend, {kHeight, content, words});
}

}  // namespace eq::report
