#include "training/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>

#include "core/device.h"
#include "core/errors.h"
#include "core/file.h"
#include "core/json.h"
#include "core/limits.h"
#include "core/nearest.h"
#include "core/parallel.h"
#include "core/words.h"
#include "datasets/loader.h"
#include "training/config_fields.h"

namespace eq {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

std::string shown(const json& value) {
  if (value.is_number_float() && !std::isfinite(value.get<double>())) return fmt::format("{}", value.get<double>());  // no JSON
  std::string text = json_text(value);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

template <class T>
std::string range_text(T low, T high, T unbounded) {
  return high >= unbounded ? fmt::format("{} or more", low) : fmt::format("{} to {}", low, high);
}

// The names of a setting's key, which dots join: at least one, perhaps empty ones.
std::vector<std::string> names_in(const std::string& key) {
  std::vector<std::string> names;
  for (size_t begin = 0; begin <= key.size();) {
    const size_t dot = std::min(key.find('.', begin), key.size());
    names.push_back(key.substr(begin, dot - begin));
    begin = dot + 1;
  }
  return names;
}

// Where a configuration comes from: a file, and settings of the command line; or a program, without either.
class Source {
 public:
  Source(const std::string& file, const std::vector<std::string>& settings) : file_(file), settings_(settings) {}
  // For the error message: the setting that gave the key, or part of it, or the section it is in; else the file.
  std::string of(const std::string& key) const {
    if (file_.empty()) return "a configuration made in a program: " + key;
    const auto within = [](const std::string& inner, const std::string& outer) {
      return inner.starts_with(outer) && (inner.size() == outer.size() || inner[outer.size()] == '.' || inner[outer.size()] == '[');
    };
    for (auto setting = settings_.rbegin(); setting != settings_.rend(); ++setting) {
      const std::string set = with_brackets(setting->substr(0, setting->find('=')));
      if (within(key, set) || (!key.empty() && within(set, key))) return "--set " + *setting;
    }
    return file_ + ": " + (key.empty() ? "the whole file" : key);
  }
  // How to change it.
  std::string hint(const std::string& key) const {
    if (file_.empty()) return "change the value";
    return "change the value in the file or with --set " + (key.empty() ? "KEY" : key.substr(0, key.find('['))) +
           (key.find('[') == std::string::npos ? "=VALUE" : "=[...], the whole list");
  }

 private:
  // groups.0.lr_mult as groups[0].lr_mult
  static std::string with_brackets(const std::string& setting) {
    std::string key;
    for (const std::string& name : names_in(setting)) {
      const bool index = !key.empty() && name.find_first_not_of("0123456789") == std::string::npos;
      key = index ? key + "[" + name + "]" : dotted(key, name);
    }
    return key;
  }

  const std::string& file_;
  const std::vector<std::string>& settings_;
};

class Reader final : public Fields {
 public:
  Reader(const json& object, std::string path, const Source& source) : object_(object), path_(std::move(path)), source_(source) {
    if (!object_.is_object()) fail(path_, object_, "an object { }");
  }

  void finish() const {
    for (const auto& [key, value] : object_.items()) {
      if (known_set_.count(key)) continue;
      throw UsageError("there is no key '" + dotted(path_, key) + "'", source_.of(dotted(path_, key)), known_names_hint(key, known_));
    }
  }

  void integer(const char* key, int64_t& value, int64_t low, int64_t high) override {
    if (const json* found = find(key)) value = to_integer(dotted(path_, key), *found, low, high);
  }
  void number(const char* key, double& value, double low, double high) override {
    if (const json* found = find(key)) value = to_number(dotted(path_, key), *found, low, high);
  }
  void flag(const char* key, bool& value) override {
    const json* found = find(key);
    if (found == nullptr) return;
    if (!found->is_boolean()) fail(dotted(path_, key), *found, "true or false");
    value = found->get<bool>();
  }
  void text(const char* key, std::string& value, const std::vector<std::string>& choices) override {
    const json* found = find(key);
    if (found == nullptr) return;
    if (!found->is_string()) fail(dotted(path_, key), *found, "text (in double quotes)");
    value = found->get<std::string>();
    if (choices.empty() || std::find(choices.begin(), choices.end(), value) != choices.end()) return;
    throw UsageError(dotted(path_, key) + " cannot be " + shown(*found), source_.of(dotted(path_, key)), known_names_hint(value, choices));
  }
  void integers(const char* key, std::vector<int64_t>& values, int64_t low, int64_t high, size_t count) override {
    const json* found = find(key);
    if (found == nullptr) return;
    check_list(key, *found, count, "integers");
    values.clear();
    for (size_t i = 0; i < found->size(); ++i) values.push_back(to_integer(element(key, i), (*found)[i], low, high));
  }
  void numbers(const char* key, std::vector<double>& values, double low, double high, size_t count) override {
    const json* found = find(key);
    if (found == nullptr) return;
    check_list(key, *found, count, "numbers");
    values.clear();
    for (size_t i = 0; i < found->size(); ++i) values.push_back(to_number(element(key, i), (*found)[i], low, high));
  }
  void texts(const char* key, std::vector<std::string>& values) override {
    const json* found = find(key);
    if (found == nullptr) return;
    check_list(key, *found, 0, "texts");
    values.clear();
    for (size_t i = 0; i < found->size(); ++i) {
      if (!(*found)[i].is_string()) fail(element(key, i), (*found)[i], "text (in double quotes)");
      values.push_back((*found)[i].get<std::string>());
    }
  }
  void object(const char* key, const Visit& visit) override {
    if (const json* found = find(key)) read_object(*found, dotted(path_, key), visit);
  }
  void optional_object(const char* key, bool& present, const Visit& visit) override {
    const json* found = find(key);
    if (found == nullptr) return;
    present = !found->is_null();
    if (present) read_object(*found, dotted(path_, key), visit);
  }
  void optional_pair(const char* key, std::optional<std::array<int64_t, 2>>& value, int64_t low, int64_t high) override {
    const json* found = find(key);
    if (found == nullptr) return;
    value.reset();
    if (found->is_null()) return;
    check_list(key, *found, 2, "integers");
    value = {to_integer(element(key, 0), (*found)[0], low, high), to_integer(element(key, 1), (*found)[1], low, high)};
  }
  void objects(const char* key, size_t, const std::function<void(size_t)>& resize,
               const std::function<void(Fields&, size_t)>& visit) override {
    const json* found = find(key);
    if (found == nullptr) return;
    check_list(key, *found, 0, "objects");
    resize(found->size());
    for (size_t i = 0; i < found->size(); ++i) {
      read_object((*found)[i], element(key, i), [&](Fields& fields) { visit(fields, i); });
    }
  }
  void other_objects(const std::vector<std::string>&, const std::function<void(Fields&, const std::string&)>& visit) override {
    for (const auto& [key, value] : object_.items()) {
      if (!known_set_.insert(key).second) continue;
      read_object(value, dotted(path_, key), [&, &name = key](Fields& fields) { visit(fields, name); });
    }
  }
  void any(const char* key, const std::function<void(const std::string&)>& read, const std::function<std::string()>&) override {
    const json* found = find(key);
    if (found == nullptr) return;
    try {
      read(json_text(*found));  // a setting's text need not be UTF-8
    } catch (const std::invalid_argument& rule) {
      fail(dotted(path_, key), *found, rule.what());
    }
  }

 private:
  const json* find(const char* key) {
    known_.push_back(key);
    known_set_.insert(key);
    const auto found = object_.find(key);
    return found == object_.end() ? nullptr : &*found;
  }
  void read_object(const json& value, const std::string& path, const Visit& visit) const {
    Reader reader(value, path, source_);
    visit(reader);
    reader.finish();
  }
  int64_t to_integer(const std::string& path, const json& value, int64_t low, int64_t high) const {
    const std::string rule = "a whole number, " + range_text(low, high, std::min(kMost, std::numeric_limits<int64_t>::max()));
    int64_t result = 0;
    if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t(std::numeric_limits<int64_t>::max())) fail(path, value, rule);
    if (value.is_number_integer()) {
      result = value.get<int64_t>();
    } else if (value.is_number_float() && std::floor(value.get<double>()) == value.get<double>() && std::abs(value.get<double>()) < 9e15) {
      result = int64_t(value.get<double>());  // 1e4
    } else {
      fail(path, value, rule);
    }
    if (result < low || result > high) fail(path, value, rule);
    return result;
  }
  double to_number(const std::string& path, const json& value, double low, double high) const {
    if (!value.is_number() || !(value.get<double>() >= low && value.get<double>() <= high) || !std::isfinite(value.get<double>())) {
      fail(path, value, "a number, " + range_text(low, high, kInfinity));
    }
    return value.get<double>();
  }
  void check_list(const char* key, const json& value, size_t count, const std::string& what) const {
    if (value.is_array() && (count == 0 || value.size() == count) && value.size() <= 65536) return;
    fail(dotted(path_, key), value, count == 0 ? "a list of " + what : fmt::format("a list of {} {}", count, what));
  }
  std::string element(const char* key, size_t index) const { return dotted(path_, key) + "[" + std::to_string(index) + "]"; }
  [[noreturn]] void fail(const std::string& path, const json& value, const std::string& rule) const {
    throw UsageError((path.empty() ? "a configuration" : path) + " must be " + rule + ", not " + shown(value), source_.of(path),
                     source_.hint(path));
  }

  const json& object_;
  std::string path_;
  const Source& source_;
  std::vector<std::string> known_;
  std::set<std::string> known_set_;
};

class Writer final : public Fields {
 public:
  explicit Writer(ordered_json& object) : object_(object) { object_ = ordered_json::object(); }

  void integer(const char* key, int64_t& value, int64_t, int64_t) override { object_[key] = value; }
  void number(const char* key, double& value, double, double) override { object_[key] = value; }
  void flag(const char* key, bool& value) override { object_[key] = value; }
  void text(const char* key, std::string& value, const std::vector<std::string>&) override { object_[key] = value; }
  void integers(const char* key, std::vector<int64_t>& values, int64_t, int64_t, size_t) override { object_[key] = values; }
  void numbers(const char* key, std::vector<double>& values, double, double, size_t) override { object_[key] = values; }
  void texts(const char* key, std::vector<std::string>& values) override { object_[key] = values; }
  void object(const char* key, const Visit& visit) override { write_object(object_[key], visit); }
  void optional_object(const char* key, bool& present, const Visit& visit) override {
    if (present) {
      write_object(object_[key], visit);
    } else {
      object_[key] = nullptr;
    }
  }
  void optional_pair(const char* key, std::optional<std::array<int64_t, 2>>& value, int64_t, int64_t) override {
    object_[key] = value ? ordered_json(*value) : ordered_json(nullptr);
  }
  void objects(const char* key, size_t size, const std::function<void(size_t)>&,
               const std::function<void(Fields&, size_t)>& visit) override {
    object_[key] = ordered_json::array();
    for (size_t i = 0; i < size; ++i) {
      ordered_json element;
      write_object(element, [&](Fields& fields) { visit(fields, i); });
      object_[key].push_back(std::move(element));
    }
  }
  void other_objects(const std::vector<std::string>& names, const std::function<void(Fields&, const std::string&)>& visit) override {
    for (const std::string& name : names) write_object(object_[name], [&](Fields& fields) { visit(fields, name); });
  }
  void any(const char* key, const std::function<void(const std::string&)>&, const std::function<std::string()>& write) override {
    object_[key] = ordered_json::parse(write());
  }

 private:
  static void write_object(ordered_json& target, const Visit& visit) {
    Writer writer(target);
    visit(writer);
  }
  ordered_json& object_;
};

// A setting's value: JSON if it is, the bare text otherwise. What begins like a list or an object must be one.
json setting_value(const std::string& text, const std::string& setting) {
  try {
    return parse_json(text, "--set " + setting, false);
  } catch (const DataError& error) {
    if (!text.empty() && (text[0] == '{' || text[0] == '[' || text[0] == '"')) {
      throw UsageError("the value is not JSON: " + error.what_happened(), "--set " + setting,
                       "quote the whole setting for the shell: --set 'key=[1, 2]'");
    }
    if (text.size() > limits::kJsonBytes) throw UsageError("the value is too long", "--set", "use the file");
    return text;
  }
}

void apply_setting(json& root, const std::string& setting) {
  const size_t equals = setting.find('=');
  if (equals == std::string::npos || equals == 0) {
    throw UsageError("a setting has the form key=value, not \"" + setting + "\"", "--set", "for example --set train.iterations=100");
  }
  const std::string path = setting.substr(0, equals);
  json* at = &root;
  size_t depth = 0;
  for (const std::string& key : names_in(path)) {
    if (key.empty() || ++depth > size_t(limits::kJsonDepth)) {
      throw UsageError("\"" + path + "\" is not a key", "--set " + setting, "keys are names joined by single dots");
    }
    if (at->is_null()) *at = json::object();  // a section that was switched off, or is not in the file
    if (at->is_array()) {
      const bool digits = key.size() < 6 && key.find_first_not_of("0123456789") == std::string::npos;
      if (!digits || size_t(std::stoi(key)) >= at->size()) {
        throw UsageError("\"" + key + "\" is not an index of the list, which has " + counted(int64_t(at->size()), "element"),
                         "--set " + setting, "count from 0, or set the whole list: key=[...]");
      }
      at = &(*at)[size_t(std::stoi(key))];
    } else if (at->is_object()) {
      at = &(*at)[key];
    } else {
      throw UsageError("\"" + path + "\" goes below " + shown(*at) + ", which is no section", "--set " + setting, "set the section itself");
    }
  }
  *at = setting_value(setting.substr(equals + 1), setting);
}

ordered_json to_json(const Config& config) {
  Config copy = config;  // the description is one for reading and writing, so it takes values it may change
  ordered_json result;
  Writer writer(result);
  visit_config(writer, copy);
  return result;
}

// Written down and read again, `visit` refuses what it refuses in a file.
void check_as_written(const std::string& section, const Fields::Visit& visit) {
  ordered_json written;
  Writer writer(written);
  visit(writer);
  const json value = written;
  const std::string no_file;
  const std::vector<std::string> no_settings;
  const Source program(no_file, no_settings);
  Reader reader(value, section, program);
  visit(reader);
}

}  // namespace

Config parse_config(const std::string& text, const std::string& name, const std::vector<std::string>& settings) {
  json root = parse_json(text, name, true);
  for (const std::string& setting : settings) apply_setting(root, setting);
  Config config;
  const Source source(name, settings);
  Reader reader(root, "", source);
  visit_config(reader, config);
  reader.finish();
  return config;
}

Config load_config(const std::filesystem::path& path, const std::vector<std::string>& settings) {
  return parse_config(read_text(path, limits::kJsonBytes), path.string(), settings);
}

void check_config(const Config& config) {
  Config copy = config;
  check_as_written("", [&](Fields& fields) { visit_config(fields, copy); });
}

void check_config(const OptimizerOptions& section) {
  OptimizerOptions copy = section;
  check_as_written("optimizer", [&](Fields& fields) { visit_optimizer(fields, copy); });
}

void check_config(const ScheduleOptions& section) {
  ScheduleOptions copy = section;
  check_as_written("schedule", [&](Fields& fields) { visit_schedule(fields, copy); });
}

void check_config(const EvaluateOptions& section) {
  EvaluateOptions copy = section;
  check_as_written("evaluate", [&](Fields& fields) { visit_evaluate(fields, copy); });
}

LoaderOptions loader_options(const Config& config) {
  constexpr int kMostOnGpu = 8;
  const int chosen = compute_device().is_cuda() ? std::clamp(num_threads() - 1, 1, kMostOnGpu) : 1;
  return {.batch_size = config.train.batch_size,
          .threads = config.train.loader_threads > 0 ? int(config.train.loader_threads) : chosen,
          .seed = uint64_t(config.seed)};
}

std::string to_json_text(const Config& config) { return json_text(to_json(config), 2) + "\n"; }

std::vector<std::string> config_differences(const Config& a, const Config& b) {
  const auto left = flattened(to_json(a)), right = flattened(to_json(b));
  std::vector<std::string> differences;
  const auto add_missing = [&](const auto& from, const auto& in) {
    for (const auto& entry : from) {
      if (std::find(in.begin(), in.end(), entry) != in.end()) continue;
      if (std::find(differences.begin(), differences.end(), entry.first) == differences.end()) differences.push_back(entry.first);
    }
  };
  add_missing(left, right);
  add_missing(right, left);
  return differences;
}

std::vector<std::string> differences_but_for(std::span<const char* const> free, const Config& a, const Config& b) {
  const std::vector<std::string> keys = config_differences(a, b);
  std::vector<std::string> others;
  for (const std::string& key : keys) {
    const bool is_free = std::any_of(free.begin(), free.end(),
                                     [&](const std::string& name) { return name.ends_with(".") ? key.starts_with(name) : key == name; });
    const bool in_section =
        std::any_of(keys.begin(), keys.end(), [&](const std::string& section) { return key.starts_with(section + "."); });
    if (!is_free && !in_section) others.push_back(key);
  }
  return others;
}

}  // namespace eq
