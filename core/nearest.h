#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "core/errors.h"

namespace eq {

// The candidate with the smallest edit distance to `word` (insert, delete, replace, swap neighbours); empty when none is near enough
// to be a likely misspelling.
std::string nearest_name(const std::string& word, const std::vector<std::string>& candidates);

// "did you mean 'x'? known: a, b, c"
std::string known_names_hint(const std::string& word, const std::vector<std::string>& candidates);

// Throws UsageError at `where` for a value that is none of the known ones.
void check_choice(const std::string& value, const std::vector<std::string>& known, const std::string& where);

// The entry of a table that has this name. Throws UsageError: "there is no <kind> '<name>'", at `where`.
template <class Table>
const auto& find_named(const Table& table, const std::string& name, std::string_view kind, std::string_view where) {
  std::vector<std::string> known;
  for (const auto& entry : table) {
    if (entry.name == name) return entry;
    known.emplace_back(entry.name);
  }
  throw UsageError("there is no " + std::string(kind) + " '" + name + "'", std::string(where), known_names_hint(name, known));
}

}  // namespace eq
