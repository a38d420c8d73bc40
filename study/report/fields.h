#pragma once
// Reading JSON files that another version, or a damaged disk, may have written: absent is not an error, the wrong type is one that names
// the file.

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace eq::report {

// The fields of an object that lives elsewhere.
class Fields {
 public:
  Fields(const nlohmann::json& object, std::string source);  // throws DataError unless it is an object
  bool has(const char* key) const;                           // present and not null
  double number(const char* key) const;                      // NaN when absent or null
  std::string words(const char* key) const;                  // empty when absent
  bool flag(const char* key) const;                          // false when absent
  std::vector<double> numbers(const char* key) const;        // null: NaN
  std::vector<std::string> strings(const char* key) const;
  std::vector<Fields> objects(const char* key) const;
  Fields object(const char* key) const;  // without any field when absent
  const nlohmann::json& value() const { return *object_; }
  const std::string& source() const { return source_; }

 private:
  const nlohmann::json* at(const char* key) const;
  const nlohmann::json& list(const char* key) const;
  [[noreturn]] void refuse(const char* key, const char* expected) const;
  const nlohmann::json* object_;
  std::string source_;
};

// Strict JSON of up to 64 MiB. Throws IoError, DataError.
nlohmann::json read_json(const std::filesystem::path& path);
// One value per line; a last line without an end, which a killed run left, is passed over. A missing file has none.
std::vector<nlohmann::json> read_json_lines(const std::filesystem::path& path);

}  // namespace eq::report
