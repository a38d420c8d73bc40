#pragma once
// The programs of docs/library.md, one a file, built outside of the tree against the installed library (tests/install). Each throws where
// what the page says does not hold.

#include <filesystem>
#include <stdexcept>
#include <string>

void first_gradient(const std::filesystem::path& folder);
void train_by_hand(const std::filesystem::path& folder);
void train_with_own_parts(const std::filesystem::path& folder);
void fuse_in_a_head(const std::filesystem::path& folder);
void extend_autograd(const std::filesystem::path& folder);
void probe_a_site(const std::filesystem::path& folder);
void deploy(const std::filesystem::path& folder);
void make_mistakes(const std::filesystem::path& folder);

inline void expect(bool holds, const std::string& what) {
  if (!holds) throw std::logic_error("does not hold: " + what);
}
