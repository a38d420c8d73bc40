#pragma once
// A line of comma-separated values, with quotes where a field needs them (RFC 4180). Control characters become spaces, so a row is one
// line, and bytes that are not UTF-8, as a file's name may have them, U+FFFD.

#include <string>
#include <vector>

namespace eq {

std::string csv_line(const std::vector<std::string>& fields);  // without the line's end
// The fields of a line. Throws DataError naming `where` for quotes that do not match.
std::vector<std::string> csv_fields(const std::string& line, const std::string& where);

}  // namespace eq
