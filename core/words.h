#pragma once
// Words of messages, and of names that are compared.

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
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

// "a, b, c", of texts or whole numbers.
template <class Words>
std::string joined(const Words& words, const std::string& between = ", ") {
  std::string text;
  bool first = true;
  for (const auto& word : words) {
    if (!first) text += between;
    if constexpr (std::is_integral_v<std::remove_cvref_t<decltype(word)>>) {
      text += std::to_string(word);
    } else {
      text += word;
    }
    first = false;
  }
  return text;
}

// "backbone.layer1": the name of what is inside of something, which may have none itself.
inline std::string dotted(const std::string& outer, const std::string& name) { return outer.empty() ? name : outer + "." + name; }

inline constexpr size_t kSomeNames = 6;

// "a, b, c": the first kSomeNames, and how many there are in all where that is more; `names` may end there.
inline std::string some_of(const std::vector<std::string>& names, size_t all) {
  const std::string text = joined(std::span(names).first(std::min(names.size(), kSomeNames)));
  return all > kSomeNames ? text + ", ... (" + std::to_string(all) + " in all)" : text;
}
inline std::string some_of(const std::vector<std::string>& names) { return some_of(names, names.size()); }

// These between a title and an end; nothing where there are no names.
inline std::string titled(const std::string& title, const std::vector<std::string>& names, const std::string& end = "") {
  return names.empty() ? "" : title + some_of(names) + end;
}

}  // namespace eq
