#pragma once
// Charts as <figure> with inline SVG, 360 units wide, so that they are read at their own size on a phone and stand in rows of three on a
// desk. Each has a title, named axes with units, a legend, and its content in words for those who do not see it. Values that are NaN are
// left out; a chart without a single value is a sentence saying so, never an empty frame.

#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "study/report/html.h"

namespace eq::report {

inline constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

struct Axis {
  std::string name, unit;  // the unit may be empty: a count, or a ratio
  bool log = false;
  bool whole = false;                                             // ticks at whole numbers only
  std::optional<double> low = std::nullopt, high = std::nullopt;  // included in the range
};
inline const Axis kIterations{.name = "iteration", .unit = "", .whole = true, .low = 0};  // of a training run

struct Series {
  std::string name;  // empty: not in the legend
  std::vector<double> x, y;
  int color = 0;  // 0 .. 7
  bool dashed = false, line = true, marks = false;
};

struct LineChart {
  std::string title, caption;
  Axis x, y;
  std::vector<Series> series;  // of more than 300 points: means of equal parts, and the caption says so
};
Markup line_chart(const LineChart& chart);

struct BarChart {
  std::string title, caption;
  std::string rows;  // what a row is: "class"
  Axis value;
  struct Bar {
    std::string label;
    double value = kNone;  // NaN: no bar, `note` says why
    std::string note;      // written behind the bar
    int color = 0;
  };
  std::vector<Bar> bars;  // from the top
};
Markup bar_chart(const BarChart& chart);

enum class Mark { kDot, kRing, kDiamond, kSquare, kTriangle, kTick };

// Of arms or runs side by side, in their order and over again.
inline constexpr Mark kArmMarks[] = {Mark::kRing, Mark::kDot, Mark::kDiamond, Mark::kSquare, Mark::kTriangle};

// Rows of values on one axis: arms with their seeds, branches with their scales, differences with their intervals.
struct DotPlot {
  std::string title, caption;
  std::string row_name;  // what a row is: "arm"
  std::vector<std::string> rows;
  Axis value;
  struct Group {
    std::string name;            // empty: not in the legend
    std::vector<double> values;  // one per row
    Mark mark = Mark::kDot;
    int color = 0;
    bool connected = false;  // a thin line from row to row: the same seed
  };
  std::vector<Group> groups;
  struct Interval {
    size_t row = 0;
    double low = 0, high = 0;
    bool thick = false;
    int color = 0;
    int lane = 0;  // of thin ones of a row: those of other lanes lie below
  };
  std::vector<Interval> intervals;
  std::string thick_name, thin_name;          // of the intervals, in the legend
  std::optional<double> zero = std::nullopt;  // a line across all rows
};
Markup dot_plot(const DotPlot& plot);

struct HeatMap {
  std::string title, caption;
  Axis x, y, value;                         // value.log, or by its square root where `root`
  std::vector<std::string> rows, columns;   // labels; as many as there are values, some may be empty
  std::vector<std::vector<double>> values;  // [row][column]
  bool root = false;
  bool as_percent = false;  // the values are shares
};
Markup heat_map(const HeatMap& map);

}  // namespace eq::report
