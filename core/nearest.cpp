#include "core/nearest.h"

#include <algorithm>

#include "core/words.h"

namespace eq {
namespace {

// Optimal string alignment distance.
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

}  // namespace

std::string nearest_name(const std::string& word, const std::vector<std::string>& candidates) {
  std::string best;
  size_t best_distance = 1 + std::max<size_t>(2, word.size() / 2);
  for (const std::string& candidate : candidates) {
    if (word.size() > 64 || candidate.size() > 64) continue;
    const size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string known_names_hint(const std::string& word, const std::vector<std::string>& candidates) {
  const std::string near = nearest_name(word, candidates);
  const std::string text = near.empty() ? "" : "did you mean '" + near + "'? ";
  return text + "known: " + joined(candidates);
}

void check_choice(const std::string& value, const std::vector<std::string>& known, const std::string& where) {
  if (std::find(known.begin(), known.end(), value) != known.end()) return;
  throw UsageError("there is no choice '" + value + "'", where, known_names_hint(value, known));
}

}  // namespace eq
