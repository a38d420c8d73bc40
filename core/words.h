#pragma once
// Words of messages.

#include <cstdint>
#include <string>

namespace eq {

// "1 thread", "2 threads"; with the plural where it is not the noun and an s.
inline std::string counted(int64_t count, const std::string& noun, const std::string& plural = "") {
  return std::to_string(count) + " " + (count == 1 ? noun : plural.empty() ? noun + "s" : plural);
}

}  // namespace eq
