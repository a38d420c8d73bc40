#pragma once
// Numbers for people: where an axis has its ticks, and how a number is written.

#include <string>
#include <vector>

namespace eq::report {

struct Ticks {
  std::vector<double> at;           // ascending; the first and last enclose the data on a linear axis
  std::vector<std::string> labels;  // one per tick, short
  std::string multiplier;           // what the labels have to be multiplied by, "×10⁻⁵"; empty: nothing
};

// Multiples of 1, 2 or 5 times a power of ten, about `wanted` of them, enclosing [low, high]. `whole`: no fractions. Throws nothing: a
// range that is empty or not finite is widened.
Ticks linear_ticks(double low, double high, int wanted, bool whole = false);
// Powers of ten within [low, high] (both positive), with 2 and 5 times them, or all digits, where those are few; the range itself is not
// widened.
Ticks log_ticks(double low, double high);

inline constexpr const char* kDash = "–";          // for NaN, in all of these
std::string short_number(double value);                  // three significant digits: "0.583", "12 300", "1.2×10⁻⁵"
std::string grouped(long long value);                    // "1 234 567"
std::string whole_number(double value);                  // rounded and grouped
std::string percent(double fraction, int decimals = 1);  // "58.3 %"
std::string duration(double seconds);                    // "0:02:11"

}  // namespace eq::report
