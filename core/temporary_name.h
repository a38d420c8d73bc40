#pragma once
// Names of files that are being written (FileWriter in core/file.h): a kill leaves such files behind, which nobody else looks at.

#include <cstdint>
#include <string>

namespace eq {

// Beside a file of this name. It is cut so that the longest permitted name still leaves room for the ending.
inline std::string temporary_name(const std::string& name, int64_t process, uint64_t number) {
  std::string text = ".";  // GCC 12 warns of sums that begin with a text of one character
  return text.append(name, 0, 200) + "." + std::to_string(process) + "." + std::to_string(number) + ".tmp";
}

// Only such a one: whoever deletes by this deletes no file of somebody else's.
inline bool is_temporary_name(const std::string& name) {
  if (!name.starts_with(".") || !name.ends_with(".tmp")) return false;
  size_t end = name.size() - 4;
  for (int number = 0; number < 2; ++number) {
    const size_t dot = name.rfind('.', end - 1), digits = name.find_first_not_of("0123456789", dot + 1);
    if (dot == 0 || dot + 1 == end || digits != end) return false;
    end = dot;
  }
  return true;
}

}  // namespace eq
