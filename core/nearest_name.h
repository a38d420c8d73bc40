#pragma once
// "Did you mean": the known name nearest to a misspelt one.

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace eq {

// Levenshtein distance: insertions, deletions and replacements.
inline int64_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<int64_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = int64_t(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    int64_t diagonal = row[0];
    row[0] = int64_t(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int64_t replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j - 1] + 1, row[j] + 1});
    }
  }
  return row[b.size()];
}

// The nearest of `names` (the first of equals); empty when there are none. Very long input is compared by its beginning.
inline std::string nearest_name(std::string_view name, const std::vector<std::string>& names) {
  std::string best;
  int64_t best_distance = 0;
  for (const std::string& candidate : names) {
    const int64_t distance = edit_distance(name.substr(0, 64), std::string_view(candidate).substr(0, 64));
    if (best.empty() || distance < best_distance) best = candidate, best_distance = distance;
  }
  return best;
}

// What to try, for an error: the nearest name and all known ones.
inline std::string suggest_name(std::string_view name, const std::vector<std::string>& names) {
  std::string text = "did you mean \"" + nearest_name(name, names) + "\"? known:";
  for (const std::string& candidate : names) text += " " + candidate;
  return text;
}

}  // namespace eq
