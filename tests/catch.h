#pragma once
// Catch2 of version 2 (Debian 12) or 3 (Debian 13), by names that both have here: Approx, Catch::Contains, StartsWith and EndsWith for
// texts.

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#include <string>

using Catch::Approx;

namespace Catch {
using Matchers::EndsWith;
using Matchers::StartsWith;

inline auto Contains(const std::string& text, CaseSensitive sensitive = CaseSensitive::Yes) {
  return Matchers::ContainsSubstring(text, sensitive);
}
}  // namespace Catch
#else
#include <catch2/catch.hpp>
#endif
