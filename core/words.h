#pragma once
// Words of messages.

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace eq {

// "1 thread", "2 threads"; with the plural where it is not the noun and an s.
inline std::string counted(int64_t count, const std::string& noun, const std::string& plural = "") {
  return std::to_string(count) + " " + (count == 1 ? noun : plural.empty() ? noun + "s" : plural);
}

// "a, b, c": the first six, and how many there are in all where that is more.
inline std::string some_of(const std::vector<std::string>& names) {
  constexpr size_t kMost = 6;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kMost); ++i) text += (i == 0 ? "" : ", ") + names[i];
  return names.size() > kMost ? text + ", ... (" + std::to_string(names.size()) + " in all)" : text;
}

}  // namespace eq
