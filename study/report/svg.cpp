#include "study/report/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace eq::report::svg {
namespace {

// The first byte of each character.
bool starts_character(char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }
// Beyond the Latin, Greek and Cyrillic blocks characters may be twice as wide.
bool wide_character(char c) { return static_cast<unsigned char>(c) >= 0xE3; }

// The next 1, 2 or 5 times a power of ten at or beyond `value`.
double round_log(double value, bool up) {
  const double power = std::pow(10.0, std::floor(std::log10(value)));
  for (const double step : {1.0, 2.0, 5.0}) {
    if (up && step * power >= value * (1 - 1e-9)) return step * power;
  }
  for (const double step : {10.0, 5.0, 2.0}) {
    if (!up && step * power <= value * (1 + 1e-9)) return step * power;
  }
  return up ? 10 * power : power;
}

// Of some numbers of ticks around the wanted one, that which wastes the least of the axis.
Ticks tightest_ticks(double low, double high, int wanted, bool whole) {
  Ticks best = linear_ticks(low, high, wanted, whole);
  for (const int other : {wanted + 1, wanted - 1}) {
    Ticks ticks = linear_ticks(low, high, other, whole);
    if (ticks.at.size() >= 3 && ticks.at.back() - ticks.at.front() < 0.999 * (best.at.back() - best.at.front())) best = std::move(ticks);
  }
  return best;
}

}  // namespace

std::string number(double value) {
  std::string out = fmt::format("{:.2f}", value);
  while (out.back() == '0') out.pop_back();
  if (out.back() == '.') out.pop_back();
  return out == "-0" ? "0" : out;
}

double text_width(std::string_view plain, double size) {
  double units = 0;
  for (const char c : plain) {
    if (starts_character(c)) {
      units += wide_character(c)                              ? 1.0
               : c == '.' || c == ' ' || c == 'i' || c == 'l' ? 0.35
               : static_cast<unsigned char>(c) >= 0x80        ? 0.84
                                                              : 0.64;
    }
  }
  return units * size;
}

std::string shortened(const std::string& plain, double width) {
  if (text_width(plain) <= width) return plain;
  std::string kept;
  for (size_t at = 0; at < plain.size();) {
    size_t end = at + 1;
    while (end < plain.size() && !starts_character(plain[end])) ++end;
    const std::string longer = kept + plain.substr(at, end - at);
    if (text_width(longer + "…") > width) break;
    kept = longer;
    at = end;
  }
  return kept + "…";
}

std::vector<std::string> two_lines(const std::string& plain, double width) {
  if (text_width(plain) <= width) return {plain};
  size_t space = 0, mark = 0;  // the last places at which the first line still fits
  for (size_t at = 1; at < plain.size() && text_width(plain.substr(0, at)) <= width; ++at) {
    if (plain[at] == ' ') space = at;
    if (plain[at - 1] == '_' || plain[at - 1] == '.') mark = at;
  }
  const size_t cut = space > 0 ? space : mark;
  if (cut == 0) return {shortened(plain, width)};
  return {plain.substr(0, cut), shortened(plain.substr(cut + (plain[cut] == ' ' ? 1 : 0)), width)};
}

std::string axis_title(const Axis& axis, const std::string& multiplier) {
  const std::string unit = multiplier + (multiplier.empty() || axis.unit.empty() ? "" : " ") + axis.unit;
  return axis.name + (unit.empty() ? "" : " (" + unit + ")");
}

Scale::Scale(const Axis& axis, const std::vector<double>& values, double from, double to, int wanted_ticks)
    : log_(axis.log), from_(from), to_(to) {
  double low = axis.low.value_or(INFINITY), high = axis.high.value_or(-INFINITY);
  for (const double value : values) {
    if (!std::isfinite(value) || (log_ && value <= 0)) continue;
    empty_ = false;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  if (empty_) return;
  if (log_) {
    if (high < low * 1.2) low /= 1.1, high *= 1.1;
    low_ = round_log(low, false);
    high_ = round_log(high, true);
    ticks_ = log_ticks(low_, high_);
    return;
  }
  // Quantities that reach towards zero are shown from zero.
  if (!axis.low && low > 0 && low < 0.4 * high && !axis.whole) low = 0;
  ticks_ = tightest_ticks(low, high, wanted_ticks, axis.whole);
  // Counts end where the data end; other axes at a tick.
  low_ = axis.whole && low < high ? low : std::min(low, ticks_.at.front());
  high_ = axis.whole && low < high ? high : std::max(high, ticks_.at.back());
}

bool Scale::shows(double value) const {
  const double slack = 1e-9 * (std::abs(low_) + std::abs(high_));
  return std::isfinite(value) && (!log_ || value > 0) && value >= low_ - slack && value <= high_ + slack;
}

double Scale::operator()(double value) const {
  const double share = log_ ? std::log(value / low_) / std::log(high_ / low_) : (value - low_) / (high_ - low_);
  return from_ + (to_ - from_) * share;
}

Markup text_at(double x, double y, Anchor anchor, const std::string& css, const std::string& words) {
  Attributes attributes{{"x", number(x)}, {"y", number(y)}};
  if (anchor != Anchor::kStart) attributes.emplace_back("text-anchor", anchor == Anchor::kMiddle ? "middle" : "end");
  if (!css.empty()) attributes.emplace_back("class", css);
  return element("text", attributes, text(words));
}

Markup segment(double x1, double y1, double x2, double y2, const std::string& css) {
  return element("line", {{"x1", number(x1)}, {"y1", number(y1)}, {"x2", number(x2)}, {"y2", number(y2)}, {"class", css}});
}

Markup mark(Mark shape, double x, double y, int color) {
  const std::string fill = "mark fill" + std::to_string(color), stroke = "stroke" + std::to_string(color);
  const std::string cx = number(x), cy = number(y);
  if (shape == Mark::kRing) return element("circle", {{"cx", cx}, {"cy", cy}, {"r", "4"}, {"class", "hollow " + stroke}});
  if (shape == Mark::kTick) return segment(x, y - 7, x, y + 7, "line " + stroke);
  if (shape == Mark::kDiamond) {
    return element("path", {{"d", fmt::format("M{} {}l4.6 4.6l-4.6 4.6l-4.6 -4.6z", cx, number(y - 4.6))}, {"class", fill}});
  }
  if (shape == Mark::kSquare) {
    return element("rect", {{"x", number(x - 2.9)}, {"y", number(y - 2.9)}, {"width", "5.8"}, {"height", "5.8"}, {"class", fill}});
  }
  if (shape == Mark::kTriangle) return element("path", {{"d", fmt::format("M{} {}l4.4 7.4h-8.8z", cx, number(y - 4.6))}, {"class", fill}});
  return element("circle", {{"cx", cx}, {"cy", cy}, {"r", "3.2"}, {"class", fill}});
}

Markup tooltip(const std::string& words) { return element("title", text(words)); }

namespace {

// Where a label centred at x stays inside the drawing.
double inside(double x, const std::string& label) { return std::min(x, kWidth - text_width(label) / 2); }

// Every, every second, ... label of a horizontal axis, so that none touch.
size_t labelled_every(const Scale& scale) {
  const Ticks& ticks = scale.ticks();
  for (size_t every = 1; every < ticks.at.size(); ++every) {
    double free_from = -INFINITY;
    bool fits = true;
    for (size_t i = 0; i < ticks.at.size(); i += every) {
      if (!scale.shows(ticks.at[i])) continue;
      const double middle = inside(scale(ticks.at[i]), ticks.labels[i]), half = text_width(ticks.labels[i]) / 2;
      fits &= middle - half >= free_from;
      free_from = middle + half + 6;
    }
    if (fits) return every;
  }
  return ticks.at.size();
}

}  // namespace

Markup horizontal_axis(const Axis& axis, const Scale& scale, double y, double top) {
  Markup out;
  const Ticks& ticks = scale.ticks();
  const size_t every = labelled_every(scale);
  for (size_t i = 0; i < ticks.at.size(); ++i) {
    if (!scale.shows(ticks.at[i])) continue;
    const double x = scale(ticks.at[i]);
    out += segment(x, top, x, y, "grid");
    if (i % every == 0) out += text_at(inside(x, ticks.labels[i]), y + 14, Anchor::kMiddle, "tick", ticks.labels[i]);
  }
  out += segment(scale.from(), y, scale.to(), y, "base");
  out += text_at((scale.from() + scale.to()) / 2, y + 29, Anchor::kMiddle, "axis-name", axis_title(axis, scale.ticks().multiplier));
  return out;
}

Markup vertical_axis(const Axis& axis, const Scale& scale, double x, double right) {
  Markup out;
  double free_below = INFINITY;
  for (size_t i = 0; i < scale.ticks().at.size(); ++i) {
    const double value = scale.ticks().at[i];
    if (!scale.shows(value)) continue;
    const double y = scale(value);
    out += segment(x, y, right, y, "grid");
    if (y > free_below) continue;
    out += text_at(x - 6, y + 4, Anchor::kEnd, "tick", scale.ticks().labels[i]);
    free_below = y - 13;
  }
  out += text_at(0, scale.to() - 9, Anchor::kStart, "axis-name", axis_title(axis, scale.ticks().multiplier));
  return out;
}

double label_width(const std::vector<std::string>& labels) {
  double width = 0;
  for (const std::string& label : labels) width = std::max(width, text_width(label));
  return width;
}

Markup line_sample(int color, bool dashed, bool line, const Markup& mark) {
  Markup sample;
  if (line) sample += segment(1, 6, 25, 6, std::string("line ") + (dashed ? "dashed " : "") + "stroke" + std::to_string(color));
  return sample + mark;
}

Markup figure(const std::string& title, const std::string& caption, const std::vector<LegendEntry>& legend, const Drawing& drawing) {
  Markup head = element("strong", text(title)) + text(caption);
  Markup body = element("figcaption", head);
  if (!legend.empty()) {
    Markup entries;
    for (const LegendEntry& entry : legend) {
      entries += element("li", element("svg", {{"viewBox", "0 0 26 12"}, {"aria-hidden", "true"}}, entry.sample) + text(entry.name));
    }
    body += element("ul", {{"class", "legend"}}, entries);
  }
  const Markup words = element("title", text(title)) + element("desc", text(drawing.words));
  body += element("svg",
                  {{"viewBox", "0 0 " + number(drawing.width) + " " + number(drawing.height)},
                   {"role", "img"},
                   {"aria-label", title + ". " + drawing.words}},
                  words + drawing.content);
  return Markup::literal("\n") + element("figure", {{"class", drawing.width > kWidth ? "chart wide" : "chart"}}, body);
}

Markup nothing_to_show(const std::string& title) { return missing(title + ": no finite value was recorded.", ""); }

}  // namespace eq::report::svg
