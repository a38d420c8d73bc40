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

inline bool is_temporary_name(const std::string& name) { return name.starts_with(".") && name.ends_with(".tmp"); }

}  // namespace eq
