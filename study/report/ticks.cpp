#include "study/report/ticks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/progress_line.h"

namespace eq::report {
namespace {

constexpr const char* kThinSpace = "\u202f";  // does not break

std::string superscript(int exponent) {
  constexpr const char* kDigits[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
  std::string out = exponent < 0 ? "⁻" : "";
  for (const char digit : std::to_string(std::abs(exponent))) out += kDigits[digit - '0'];
  return out;
}

int exponent_of(double value) { return value == 0 ? 0 : int(std::floor(std::log10(std::abs(value)) + 1e-12)); }

std::string without_trailing_zeros(std::string text) {
  if (text.find('.') == std::string::npos) return text;
  while (text.back() == '0') text.pop_back();
  if (text.back() == '.') text.pop_back();
  return text;
}

// One form for all labels of an axis: as many decimals as the step needs, thousands as k and M.
std::string tick_label(double value, double step) {
  const double size = std::abs(value);
  if (size < step * 1e-6) return "0";
  const std::string sign = value < 0 ? "−" : "";
  if (step >= 5e5) return sign + without_trailing_zeros(fmt::format("{:.1f}", size / 1e6)) + "M";
  if (step >= 500) return sign + without_trailing_zeros(fmt::format("{:.1f}", size / 1e3)) + "k";
  return sign + fmt::format("{:.{}f}", size, std::clamp(-exponent_of(step), 0, 12));
}

double nice_step(double raw) {
  const double power = std::pow(10.0, exponent_of(raw));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (raw <= factor * power * (1 + 1e-9)) return factor * power;
  }
  return 10 * power;
}

}  // namespace

Ticks linear_ticks(double low, double high, int wanted, bool whole) {
  if (!std::isfinite(low) || !std::isfinite(high)) low = 0, high = 1;
  if (low > high) std::swap(low, high);
  if (high - low <= 1e-12 * std::max(std::abs(low), std::abs(high))) {
    const double margin = low == 0 ? 1 : std::abs(low) * 0.1;
    low -= margin;
    high += margin;
  }
  double step = nice_step(high / std::max(1, wanted - 1) - low / std::max(1, wanted - 1));
  if (whole) step = std::max(1.0, step);
  const double first = std::floor(low / step + 1e-9), last = std::ceil(high / step - 1e-9);
  Ticks ticks;
  for (double i = first; i <= last && ticks.at.size() < 100; ++i) ticks.at.push_back(i * step);
  // Very small numbers lose their common power of ten to the axis' name.
  const double largest = std::max(std::abs(ticks.at.front()), std::abs(ticks.at.back()));
  double scale = 1;
  if (const int exponent = exponent_of(largest); exponent <= -4 || exponent >= 9) {
    scale = std::pow(10.0, -exponent);
    ticks.multiplier = "×10" + superscript(exponent);
  }
  for (const double at : ticks.at) ticks.labels.push_back(tick_label(at * scale, step * scale));
  return ticks;
}

Ticks log_ticks(double low, double high) {
  const int first = int(std::floor(std::log10(low))), last = int(std::ceil(std::log10(high)));
  const double decades = std::log10(high / low);
  const int every = std::max(1, int(std::ceil(decades / 6)));
  Ticks ticks;
  const auto add = [&](double value, const std::string& label) {
    if (value < low * (1 - 1e-9) || value > high * (1 + 1e-9)) return;
    ticks.at.push_back(value);
    ticks.labels.push_back(label);
  };
  const std::vector<int> digits = decades < 0.7   ? std::vector<int>{1, 2, 3, 4, 5, 6, 7, 8, 9}
                                  : decades < 2.5 ? std::vector<int>{1, 2, 5}
                                                  : std::vector<int>{1};
  for (int exponent = first; exponent <= last; ++exponent) {
    if (digits.size() == 1 && (exponent - first) % every != 0) continue;
    for (const int digit : digits) {
      const double value = digit * std::pow(10.0, exponent);
      const bool plain = first >= -3 && last <= 4;
      const std::string power = "10" + superscript(exponent);
      add(value, plain ? without_trailing_zeros(fmt::format("{:.4f}", value)) : digit == 1 ? power : std::to_string(digit) + "·" + power);
    }
  }
  if (ticks.at.size() < 2) return linear_ticks(low, high, 4);  // much less than a decade: a straight scale says as much
  return ticks;
}

std::string grouped(long long value) {
  std::string digits = std::to_string(value < 0 ? -value : value), out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) out += kThinSpace;
    out += digits[i];
  }
  return (value < 0 ? "−" : "") + out;
}

std::string short_number(double value) {
  if (std::isnan(value)) return kDash;
  if (std::isinf(value)) return value > 0 ? "∞" : "−∞";
  const double size = std::abs(value);
  if (size == 0) return "0";
  const std::string sign = value < 0 ? "−" : "";
  const int exponent = exponent_of(size);
  if (exponent >= 7 || exponent <= -4) {
    return sign + without_trailing_zeros(fmt::format("{:.2f}", size / std::pow(10.0, exponent))) + "×10" + superscript(exponent);
  }
  if (exponent >= 2) return (value < 0 ? "−" : "") + grouped(std::llround(size));
  return sign + fmt::format("{:.{}f}", size, 2 - exponent);
}

std::string whole_number(double value) { return std::abs(value) < 9e18 ? grouped(std::llround(value)) : kDash; }

std::string duration(double seconds) { return std::isnan(seconds) ? kDash : human_duration(seconds); }

std::string percent(double fraction, int decimals) {
  if (std::isnan(fraction)) return kDash;
  return fmt::format("{:.{}f}{}%", 100 * fraction, decimals, kThinSpace);
}

}  // namespace eq::report
