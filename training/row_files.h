#pragma once
// The two files in which something is recorded over iterations: <stem>.jsonl, an object a line, and <stem>.csv. Both begin each row
// with the iteration, so that a resumed run can take back what it is about to make again.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace eq {

class RowFiles {
 public:
  // Rows after iteration `resume_from` are removed, as is a last line that a kill cut off; -1 removes all. An empty folder: nothing is
  // written. Throws IoError.
  RowFiles(std::filesystem::path folder, std::string stem, std::string csv_header, int64_t resume_from);
  // One object with the key "iteration", and the lines that say the same in the table.
  void append(const std::string& json_row, const std::vector<std::string>& csv_rows) const;
  // Of rows that begin so.
  bool has(const std::string& json_begin) const;
  void remove(const std::string& json_begin, const std::string& csv_begin) const;

 private:
  std::filesystem::path folder_;
  std::string stem_;
};

// The largest iteration of the rows in <stem>.jsonl, 0 if there are none.
int64_t last_row(const std::filesystem::path& folder, const std::string& stem);

// A number as the table has it, with six digits; empty if it is not finite.
std::string csv_number(double value);

}  // namespace eq
