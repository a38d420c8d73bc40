#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "study/report/svg.h"

namespace eq::report {

using namespace svg;

Markup bar_chart(const BarChart& chart) {
  constexpr double kRow = 19, kTop = 20, kMostLabel = 118;
  std::vector<double> values = {0};
  std::vector<std::string> labels;
  bool any = false;
  double notes = 0;
  for (const auto& bar : chart.bars) {
    values.push_back(bar.value);
    labels.push_back(shortened(bar.label, kMostLabel));
    any |= std::isfinite(bar.value);
    notes = std::max(notes, text_width(bar.note));
  }
  if (!any) return nothing_to_show(chart.title);
  const double left = label_width(labels) + 8, bottom = kTop + kRow * double(chart.bars.size()) + 2;
  const Scale x(chart.value, values, left, kWidth - std::max(8.0, notes + 6), 6);
  Markup content = horizontal_axis(chart.value, x, bottom, kTop) + text_at(0, kTop - 7, Anchor::kStart, "axis-name", chart.rows);
  std::string words = axis_title(chart.value) + " of each " + chart.rows + ".";
  for (size_t i = 0; i < chart.bars.size(); ++i) {
    const auto& bar = chart.bars[i];
    const double y = kTop + kRow * double(i) + 2;
    Markup row = tooltip(bar.label + ": " + (std::isfinite(bar.value) ? short_number(bar.value) : "–"));
    row += text_at(left - 6, y + 12, Anchor::kEnd, "", labels[i]);
    double end = x(0);
    if (std::isfinite(bar.value)) {
      const double other = x(bar.value);
      row += element("rect", {{"x", number(std::min(end, other))},
                              {"y", number(y + 1)},
                              {"width", number(std::abs(other - end))},
                              {"height", number(kRow - 5)},
                              {"class", "mark fill" + std::to_string(bar.color)}});
      end = std::max(end, other);
    }
    row += text_at(end + 4, y + 12, Anchor::kStart, "", bar.note);
    content += element("g", row);
    words += " " + bar.label + ": " + (std::isfinite(bar.value) ? short_number(bar.value) : bar.note) + ";";
  }
  content += segment(x(0), kTop, x(0), bottom, "base");
  return figure(chart.title, chart.caption, {}, {bottom + 34, content, words});
}

}  // namespace eq::report
