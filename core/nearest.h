#pragma once
#include <string>
#include <vector>

namespace eq {

// The candidate with the smallest edit distance to `word` (insert, delete, replace, swap neighbours); empty when none is near enough
// to be a likely misspelling.
std::string nearest_name(const std::string& word, const std::vector<std::string>& candidates);

// "did you mean 'x'? known: a, b, c"
std::string known_names_hint(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace eq
