#pragma once
// What the charts share: coordinates, scales, axes, marks, the figure around the drawing.

#include <functional>
#include <string>
#include <vector>

#include "study/report/chart.h"
#include "study/report/ticks.h"

namespace eq::report::svg {

inline constexpr double kWidth = 360, kWideWidth = 640;  // of a drawing, in its own units
inline constexpr double kTextSize = 11;

std::string number(double value);                                    // two decimals at the most
double text_width(std::string_view plain, double size = kTextSize);  // an upper estimate
std::string shortened(const std::string& plain, double width);       // cut with an ellipsis to fit
// At most two lines of that width, broken at a space, or else behind an underscore or a dot.
std::vector<std::string> two_lines(const std::string& plain, double width);
std::string axis_title(const Axis& axis, const std::string& multiplier = "");  // "learning rate (×10⁻³)"

// Maps values to positions.
class Scale {
 public:
  // The range of `values` (those that are not finite, and on a log axis not positive, do not count), widened to the axis' own limits and,
  // when linear, to its ticks. empty() when no value counts.
  Scale(const Axis& axis, const std::vector<double>& values, double from, double to, int wanted_ticks);
  bool empty() const { return empty_; }
  bool shows(double value) const;
  double operator()(double value) const;
  const Ticks& ticks() const { return ticks_; }
  double from() const { return from_; }
  double to() const { return to_; }

 private:
  bool log_, empty_ = true;
  double low_ = 0, high_ = 1, from_, to_;
  Ticks ticks_;
};

enum class Anchor { kStart, kMiddle, kEnd };
Markup text_at(double x, double y, Anchor anchor, const std::string& css, const std::string& words);
Markup segment(double x1, double y1, double x2, double y2, const std::string& css);
Markup mark(Mark shape, double x, double y, int color);
Markup tooltip(const std::string& words);

// The horizontal axis at `y`: line, ticks, labels as far as they have room, name; with grid lines up to `top`.
Markup horizontal_axis(const Axis& axis, const Scale& scale, double y, double top);
// The vertical one, its name above it.
Markup vertical_axis(const Axis& axis, const Scale& scale, double x, double right);
// Space that the labels of a vertical axis need.
double label_width(const std::vector<std::string>& labels);

struct LegendEntry {
  std::string name;
  Markup sample;  // drawn in 26 x 12 units
};
Markup line_sample(int color, bool dashed, bool line, const Markup& mark);

struct Drawing {
  double height = 0;
  Markup content;
  std::string words;  // the content in words
  double width = kWidth;  // kWideWidth: over the page's width, and scrolled on a phone
};
Markup figure(const std::string& title, const std::string& caption, const std::vector<LegendEntry>& legend, const Drawing& drawing);
Markup nothing_to_show(const std::string& title);

}  // namespace eq::report::svg
