#include "study/report/fields.h"

#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "core/file.h"
#include "core/json.h"
#include "core/limits.h"

namespace eq::report {
namespace {

constexpr size_t kStudyBytes = size_t{64} << 20;
constexpr const char* kTry = "make the file again, or delete it: the report does without";
using nlohmann::json;

}  // namespace

Fields::Fields(const json& object, std::string source) : object_(&object), source_(std::move(source)) {
  if (!object.is_object()) throw DataError("an object was expected, not " + std::string(object.type_name()), source_, kTry);
}

void Fields::refuse(const char* key, const char* expected) const {
  throw DataError("\"" + std::string(key) + "\" should be " + expected + ", not " + at(key)->type_name(), source_, kTry);
}

const json* Fields::at(const char* key) const {
  const auto found = object_->find(key);
  return found == object_->end() || found->is_null() ? nullptr : &*found;
}

bool Fields::has(const char* key) const { return at(key) != nullptr; }

double Fields::number(const char* key) const {
  const json* value = at(key);
  if (value == nullptr) return std::numeric_limits<double>::quiet_NaN();
  if (!value->is_number()) refuse(key, "a number");
  return value->get<double>();
}

std::string Fields::words(const char* key) const {
  const json* value = at(key);
  if (value == nullptr) return "";
  if (!value->is_string()) refuse(key, "text");
  return value->get<std::string>();
}

bool Fields::flag(const char* key) const {
  const json* value = at(key);
  if (value == nullptr) return false;
  if (!value->is_boolean()) refuse(key, "true or false");
  return value->get<bool>();
}

const json& Fields::list(const char* key) const {
  static const json kEmpty = json::array();
  const json* value = at(key);
  if (value == nullptr) return kEmpty;
  if (!value->is_array()) refuse(key, "a list");
  return *value;
}

std::vector<double> Fields::numbers(const char* key) const {
  std::vector<double> out;
  for (const json& value : list(key)) {
    if (!value.is_number() && !value.is_null()) refuse(key, "a list of numbers");
    out.push_back(value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>());
  }
  return out;
}

std::vector<std::string> Fields::strings(const char* key) const {
  std::vector<std::string> out;
  for (const json& value : list(key)) {
    if (!value.is_string()) refuse(key, "a list of texts");
    out.push_back(value.get<std::string>());
  }
  return out;
}

std::vector<Fields> Fields::objects(const char* key) const {
  std::vector<Fields> out;
  for (const json& value : list(key)) out.emplace_back(value, source_ + ", \"" + key + "\"");
  return out;
}

Fields Fields::object(const char* key) const {
  static const json kEmpty = json::object();
  const json* value = at(key);
  return {value == nullptr ? kEmpty : *value, source_ + ", \"" + key + "\""};
}

json read_json(const std::filesystem::path& path) { return parse_json(read_text(path, kStudyBytes), path.string(), false, kStudyBytes); }

std::vector<json> read_json_lines(const std::filesystem::path& path) {
  std::vector<json> rows;
  if (!std::filesystem::exists(path)) return rows;
  const std::string text = read_text(path, limits::kListFileBytes);
  size_t number = 1;
  for (size_t begin = 0; begin < text.size(); ++number) {
    const size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;
    if (end > begin) rows.push_back(parse_json(text.substr(begin, end - begin), path.string() + ", row " + std::to_string(number), false));
    begin = end + 1;
  }
  return rows;
}

}  // namespace eq::report
