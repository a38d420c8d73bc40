#include "training/row_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/csv.h"
#include "core/errors.h"
#include "core/file.h"
#include "core/json.h"
#include "core/limits.h"

namespace eq {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

int64_t json_iteration(const std::string& line) {
  const json row = json::parse(line, nullptr, false);
  return row.is_object() ? whole_number(row.value("iteration", json())).value_or(kNever) : kNever;
}

int64_t csv_iteration(const std::string& line) {
  const size_t digits = line.find_first_not_of("0123456789");
  return digits == 0 || digits > 18 ? kNever : std::stoll(line.substr(0, digits));
}

// Keeps the lines of a file for which keep(line) holds.
template <class Keep>
void keep_rows(const fs::path& path, const Keep& keep) {
  if (!fs::exists(path)) return;
  const std::string text = read_text(path, limits::kListFileBytes);
  std::string kept;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    if (end < text.size() && keep(line)) kept += line + "\n";  // a last line without end was cut off by a kill
  }
  if (kept != text) write_text_atomically(path, kept);
}

}  // namespace

int64_t last_row(const fs::path& folder, const std::string& stem) {
  const fs::path path = folder / (stem + ".jsonl");
  int64_t last = 0;
  if (!fs::exists(path)) return last;
  std::istringstream rows(read_text(path, limits::kListFileBytes));
  for (std::string line; std::getline(rows, line);) {
    if (const int64_t iteration = json_iteration(line); iteration != kNever) last = std::max(last, iteration);
  }
  return last;
}

std::string csv_number(double value) { return std::isfinite(value) ? fmt::format("{:.6g}", value) : ""; }

RowFiles::RowFiles(fs::path folder, std::string stem, std::string csv_header, int64_t resume_from)
    : folder_(std::move(folder)), stem_(std::move(stem)) {
  if (folder_.empty()) return;
  const fs::path table = folder_ / (stem_ + ".csv");
  keep_rows(folder_ / (stem_ + ".jsonl"), [&](const std::string& line) { return json_iteration(line) <= resume_from; });
  keep_rows(table, [&](const std::string& line) { return line == csv_header || csv_iteration(line) <= resume_from; });
  const std::string rows = fs::exists(table) ? read_text(table, limits::kListFileBytes) : "";
  if (rows.starts_with(csv_header + "\n")) return;
  // A kill, or a full disk, may have left it empty; or the run began when there were fewer columns.
  const size_t columns = csv_fields(csv_header, table.string()).size();
  std::string text = csv_header + "\n", line;
  for (std::istringstream lines(rows); std::getline(lines, line);) {
    size_t fields = columns;
    try {
      fields = std::min(columns, csv_fields(line, table.string()).size());
    } catch (const DataError&) {  // a damaged row stays as it is
    }
    text += line + std::string(columns - fields, ',') + "\n";
  }
  write_text_atomically(table, text);
}

void RowFiles::append(const std::string& json_row, const std::vector<std::string>& csv_rows) const {
  if (folder_.empty()) return;
  append_line(folder_ / (stem_ + ".jsonl"), json_row);
  for (const std::string& row : csv_rows) append_line(folder_ / (stem_ + ".csv"), row);
}

bool RowFiles::has(const std::string& json_begin) const {
  const fs::path path = folder_ / (stem_ + ".jsonl");
  if (folder_.empty() || !fs::exists(path)) return false;
  return ("\n" + read_text(path, limits::kListFileBytes)).find("\n" + json_begin) != std::string::npos;
}

void RowFiles::remove(const std::string& json_begin, const std::string& csv_begin) const {
  if (!has(json_begin)) return;
  keep_rows(folder_ / (stem_ + ".jsonl"), [&](const std::string& line) { return !line.starts_with(json_begin); });
  keep_rows(folder_ / (stem_ + ".csv"), [&](const std::string& line) { return !line.starts_with(csv_begin); });
}

}  // namespace eq
