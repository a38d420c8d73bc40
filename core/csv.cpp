#include "core/csv.h"

#include "core/errors.h"
#include "core/json.h"

namespace eq {

std::string csv_line(const std::vector<std::string>& fields) {
  std::string line;
  for (size_t i = 0; i < fields.size(); ++i) {
    const bool quoted = fields[i].find_first_of(",\"") != std::string::npos;
    line += i > 0 ? "," : "";
    line += quoted ? "\"" : "";
    for (const char c : as_utf8(fields[i])) {
      line += c == '"' ? "\"\"" : std::string(1, c >= 0 && c < 32 ? ' ' : c);
    }
    line += quoted ? "\"" : "";
  }
  return line;
}

std::vector<std::string> csv_fields(const std::string& line, const std::string& where) {
  std::vector<std::string> fields(1);
  bool quoted = false;
  for (size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (quoted && c == '"' && i + 1 < line.size() && line[i + 1] == '"') {
      fields.back() += '"';
      ++i;
    } else if (c == '"') {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      fields.emplace_back();
    } else if (c != '\r' || i + 1 < line.size()) {
      fields.back() += c;
    }
  }
  if (quoted) throw DataError("a quote is not closed", where, "is the file complete?");
  return fields;
}

}  // namespace eq
