// docs/config.md names the keys there are, no others, and their defaults.
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "support.h"
#include "training/config.h"

using namespace eq;
using nlohmann::json;

namespace {

// The cells of a table's row: "| a | b |".
std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells;
  for (size_t begin = 2, end; (end = line.find(" |", begin)) != std::string::npos; begin = end + 3) {
    cells.push_back(end > begin ? line.substr(begin, end - begin) : "");
  }
  return cells;
}

// The keys of the tables, with the text of their defaults. In "`difficulty.noise`, `contrast`" the second is difficulty.contrast.
std::vector<std::pair<std::string, std::string>> documented_keys() {
  std::vector<std::pair<std::string, std::string>> keys;
  std::istringstream text(test::read_file(std::filesystem::path(EQ_SOURCE_DIR) / "docs" / "config.md"));
  std::string section;
  for (std::string line; std::getline(text, line);) {
    if (line.starts_with("## ")) section = line.find(',') == std::string::npos ? line.substr(4, line.size() - 5) + "." : "";
    if (!line.starts_with("| `")) continue;
    const std::vector<std::string> cells = cells_of(line);
    REQUIRE(cells.size() >= 2);
    std::istringstream names(cells[0]);
    std::string parent;
    std::vector<std::string> row;
    for (std::string name; std::getline(names, name, ',');) {
      std::erase_if(name, [](char c) { return c == '`' || c == ' '; });
      if (row.empty()) parent = name.find('.') == std::string::npos ? "" : name.substr(0, name.rfind('.') + 1);
      row.push_back(section + (row.empty() ? "" : parent) + name);
    }
    std::string defaults = cells[1];
    std::erase(defaults, '`');
    const json values = json::parse("[" + defaults + "]", nullptr, false);  // words where the default is no value
    const bool all = values.is_array() && values.size() == row.size();
    for (size_t i = 0; i < row.size(); ++i) keys.emplace_back(row[i], all ? values[i].dump() : "");
  }
  return keys;
}

// The value at a path of keys; discarded if there is none.
json at(const json& root, const std::string& dotted) {
  json value = root;
  std::istringstream keys(dotted);
  for (std::string key; std::getline(keys, key, '.');) {
    if (!value.is_object() || !value.contains(key)) return json(json::value_t::discarded);
    value = value[key];
  }
  return value;
}

void check_documented(const json& value, const std::string& path, const std::map<std::string, std::string>& documented) {
  if (documented.count(path)) return;
  INFO(path);
  REQUIRE(value.is_object());  // else it is a key without a row
  for (const auto& [key, child] : value.items()) check_documented(child, path.empty() ? key : path + "." + key, documented);
}

}  // namespace

TEST_CASE("docs/config.md has the configuration's keys, no others, with their defaults", "[config]") {
  const json config = json::parse(to_json_text(parse_config("{}", "test")));
  int compared = 0;
  std::map<std::string, std::string> documented;
  for (const auto& [key, by_default] : documented_keys()) {
    INFO(key);
    CHECK(documented.emplace(key, by_default).second);
    const json found = at(config, key);
    CHECK_FALSE(found.is_discarded());
    if (by_default.empty() || (found.is_object() && by_default == "{}")) continue;
    CHECK(found == json::parse(by_default));
    ++compared;
  }
  check_documented(config, "", documented);
  CHECK(compared > 70);
}

// Keys within one row: of a resize, of folders, of a group, of hard examples.
TEST_CASE("docs/config.md names the keys that are only there when they are used", "[config]") {
  const std::string text = test::read_file(std::filesystem::path(EQ_SOURCE_DIR) / "docs" / "config.md");
  for (const char* key : {"\"scale\"", "\"ratio_range\"", "\"images\"", "\"labels\"", "`image_suffix`", "`label_suffix`", "\"pattern\"",
                          "\"lr_mult\"", "\"decay_mult\"", "\"threshold\"", "\"min_kept\""}) {
    INFO(key);
    CHECK(text.find(key) != std::string::npos);
  }
}
