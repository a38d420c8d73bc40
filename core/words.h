#pragma once
// Words of messages, and of names that are compared.

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <string>
#include <vector>

namespace eq {

// "1 thread", "2 threads"; with the plural where it is not the noun and an s.
inline std::string counted(int64_t count, const std::string& noun, const std::string& plural = "") {
  return std::to_string(count) + " " + (count == 1 ? noun : plural.empty() ? noun + "s" : plural);
}

// ASCII letters only.
inline std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return char(std::tolower(c)); });
  return text;
}

inline constexpr size_t kSomeNames = 6;

// "a, b, c": the first kSomeNames, and how many there are in all where that is more; `names` may end there.
inline std::string some_of(const std::vector<std::string>& names, size_t all) {
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kSomeNames); ++i) text += (i == 0 ? "" : ", ") + names[i];
  return all > kSomeNames ? text + ", ... (" + std::to_string(all) + " in all)" : text;
}
inline std::string some_of(const std::vector<std::string>& names) { return some_of(names, names.size()); }

}  // namespace eq
