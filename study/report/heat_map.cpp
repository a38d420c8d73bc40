#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "study/report/svg.h"

namespace eq::report {
namespace {

using namespace svg;

constexpr size_t kMostRowsNarrow = 14;                   // of shares; more make a wide figure
constexpr int kLevels = 24;                              // of colour, where cells are drawn together
constexpr size_t kCellsWithWords = 900;                  // more cells than this have no numbers and no words of their own
constexpr double kMostColumnLabel = 112, kMostRowLabel = 150;  // the latter where rows and columns are different things

// A value's place on the colour scale, 0 .. 1; NaN: not drawn.
struct Shade {
  double low = 0, high = 1;
  bool log = false, root = false;
  double operator()(double value) const {
    if (!std::isfinite(value) || (log && value <= 0)) return kNone;
    const double share = log ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
    return std::clamp(root ? std::sqrt(std::max(0.0, share)) : share, 0.0, 1.0);
  }
};

Shade shade_of(const HeatMap& map) {
  Shade shade{.low = map.value.low.value_or(INFINITY), .high = map.value.high.value_or(-INFINITY), .log = map.value.log, .root = map.root};
  for (const auto& row : map.values) {
    for (const double value : row) {
      if (!std::isfinite(value) || (shade.log && value <= 0)) continue;
      shade.low = std::min(shade.low, value);
      shade.high = std::max(shade.high, value);
    }
  }
  if (shade.low == shade.high) shade.high = shade.low == 0 ? 1 : shade.low + std::abs(shade.low) * 0.1;
  return shade;
}

std::string written(const HeatMap& map, double value) { return map.as_percent ? percent(value) : short_number(value); }
// The lowest value is still seen on the page's own colour.
std::string opacity(double share) { return number(0.06 + 0.94 * share); }

struct Grid {
  double left, top, width, height;
};

// Few cells: each with its words, and its number where there is room.
Markup single_cells(const HeatMap& map, const Shade& shade, const Grid& grid) {
  Markup out;
  const double cell = std::min(grid.width, grid.height);
  for (size_t r = 0; r < map.values.size(); ++r) {
    for (size_t c = 0; c < map.values[r].size(); ++c) {
      const double value = map.values[r][c], share = shade(value);
      if (std::isnan(share)) continue;
      const double x = grid.left + grid.width * double(c), y = grid.top + grid.height * double(r);
      Markup here = tooltip(map.rows[r] + " → " + map.columns[c] + ": " + written(map, value));
      here += element("rect", {{"x", number(x)},
                               {"y", number(y)},
                               {"width", number(grid.width - 0.5)},
                               {"height", number(grid.height - 0.5)},
                               {"class", "heat"},
                               {"fill-opacity", opacity(share)}});
      if (map.as_percent && cell >= 12 && value >= 0.005) {
        const std::string css = std::string(cell < 17 ? "small fine" : "small") + (share > 0.55 ? " on-heat" : "");
        here += text_at(x + grid.width / 2 - 0.25, y + grid.height / 2 + 3, Anchor::kMiddle, css, fmt::format("{:.0f}", 100 * value));
      }
      out += element("g", here);
    }
  }
  return out;
}

// Many cells: all of one colour in one path.
Markup levelled_cells(const HeatMap& map, const Shade& shade, const Grid& grid) {
  std::vector<std::string> paths(kLevels);
  for (size_t r = 0; r < map.values.size(); ++r) {
    const std::string y = number(grid.top + grid.height * double(r));
    int open = -1;
    double begin = 0;
    for (size_t c = 0; c <= map.values[r].size(); ++c) {  // equal neighbours in one stroke
      const double share = c < map.values[r].size() ? shade(map.values[r][c]) : kNone;
      const int level = std::isnan(share) ? -1 : std::min(kLevels - 1, int(share * kLevels));
      if (level == open) continue;
      const double x = grid.left + grid.width * double(c);
      if (open >= 0)
        paths[size_t(open)] += fmt::format("M{} {}h{}v{}h{}z", number(begin), y, number(x - begin), number(grid.height), number(begin - x));
      open = level;
      begin = x;
    }
  }
  Markup out;
  for (int level = 0; level < kLevels; ++level) {
    if (!paths[size_t(level)].empty()) {
      out += element("path", {{"d", paths[size_t(level)]}, {"class", "heat"}, {"fill-opacity", opacity(double(level) / (kLevels - 1))}});
    }
  }
  return out;
}

// Colours and their values, below the map.
Markup color_key(const HeatMap& map, const Shade& shade, double left, double y) {
  constexpr int kSteps = 32;
  const double width = std::min(190.0, kWidth - left - 16), step = width / kSteps;
  Markup out;
  for (int i = 0; i < kSteps; ++i) {
    out += element("rect", {{"x", number(left + step * i)},
                            {"y", number(y)},
                            {"width", number(step + 0.2)},
                            {"height", "9"},
                            {"class", "heat"},
                            {"fill-opacity", opacity(double(i) / (kSteps - 1))}});
  }
  Ticks ticks = shade.log ? log_ticks(shade.low, shade.high) : linear_ticks(shade.low, shade.high, 4);
  if (map.as_percent) ticks = {{0, 0.01, 0.1, 0.25, 0.5, 1}, {"0", "1", "10", "25", "50", "100"}, ""};
  double free_from = -INFINITY;
  for (size_t i = 0; i < ticks.at.size(); ++i) {
    const double share = shade(ticks.at[i]), half = text_width(ticks.labels[i]) / 2;
    if (std::isnan(share) || ticks.at[i] < shade.low * (1 - 1e-9) || ticks.at[i] > shade.high * (1 + 1e-9)) continue;
    const double x = left + width * share;
    out += segment(x, y + 9, x, y + 12, "base");
    if (x - half < free_from) continue;
    out += text_at(x, y + 22, Anchor::kMiddle, "tick", ticks.labels[i]);
    free_from = x + half + 4;
  }
  Axis named = map.value;
  return out + text_at(left, y - 5, Anchor::kStart, "axis-name", axis_title(named, ticks.multiplier));
}

// Every label where there is room, else every second, fifth, ...; empty ones take none.
size_t label_step(const std::vector<std::string>& labels, double room, double needed) {
  size_t step = 1;
  for (const size_t candidate : {1, 2, 5, 10, 20, 25, 50, 100}) {
    step = candidate;
    if (room * double(candidate) >= needed || labels.size() <= candidate) break;
  }
  return step;
}

}  // namespace

Markup heat_map(const HeatMap& map) {
  const size_t rows = map.values.size(), columns = rows == 0 ? 0 : map.values[0].size();
  const Shade shade = shade_of(map);
  if (columns == 0 || !std::isfinite(shade.low)) return nothing_to_show(map.title);
  std::vector<std::string> row_labels, column_labels;
  for (const std::string& label : map.rows) row_labels.push_back(shortened(label, map.as_percent ? kMostColumnLabel : kMostRowLabel));
  for (const std::string& label : map.columns) column_labels.push_back(shortened(label, kMostColumnLabel));

  const double left = label_width(row_labels) + 8;
  const bool square = map.as_percent;
  const double whole = square && rows > kMostRowsNarrow ? kWideWidth : kWidth;
  Grid grid{left, square ? 36.0 : 20.0, (whole - left - 2) / double(columns), 0};
  grid.width = std::min(grid.width, 30.0 + (square ? 0 : 300));
  grid.height = square ? grid.width : std::clamp(420.0 / double(rows), 3.0, 15.0);
  const double bottom = grid.top + grid.height * double(rows);

  Markup content = rows * columns <= kCellsWithWords ? single_cells(map, shade, grid) : levelled_cells(map, shade, grid);
  const size_t row_step = label_step(row_labels, grid.height, 11.5);
  for (size_t r = 0; r < rows; r += row_step) {
    content += element(
        "g", tooltip(map.rows[r]) + text_at(left - 5, grid.top + grid.height * (double(r) + 0.5) + 4, Anchor::kEnd, "", row_labels[r]));
  }
  // Long column labels stand upright.
  const double widest = label_width(column_labels), level_room = square ? widest + 6 : 0;
  const bool upright = square && level_room > grid.width;
  const size_t column_step = label_step(column_labels, grid.width, upright ? 12 : widest + 6);
  for (size_t c = 0; c < columns; c += column_step) {
    const double x = grid.left + grid.width * (double(c) + 0.5);
    if (!upright) {
      content += text_at(x, bottom + 14, Anchor::kMiddle, "tick", column_labels[c]);
      continue;
    }
    content += element("g", {{"transform", fmt::format("translate({} {}) rotate(-90)", number(x + 4), number(bottom + 5))}},
                       tooltip(map.columns[c]) + text_at(0, 0, Anchor::kEnd, "", column_labels[c]));
  }
  const double below = bottom + (upright ? widest + 8 : square ? 18 : 32);
  content += text_at(0, 12, Anchor::kStart, "axis-name", axis_title(map.y) + (square ? " ↓" : ""));
  if (square)
    content += text_at(left, 28, Anchor::kStart, "axis-name", axis_title(map.x) + " →");
  else
    content += text_at(left + grid.width * double(columns) / 2, bottom + 29, Anchor::kMiddle, "axis-name", axis_title(map.x));
  content += color_key(map, shade, left, below + 20);
  const std::string words =
      fmt::format("{} by {} and {}: {} rows, {} columns, values from {} to {}.", axis_title(map.value), axis_title(map.y),
                  axis_title(map.x), rows, columns, written(map, shade.low), written(map, shade.high));
  return figure(map.title, map.caption, {}, {below + 48, content, words, whole});
}

}  // namespace eq::report
