// docs/config.md must name every key there is.
#include <nlohmann/json.hpp>
#include <sstream>

#include "support.h"
#include "training/config.h"

using namespace eq;

namespace {

bool mentions(const std::string& text, const std::string& word) { return text.find(word) != std::string::npos; }

void check_keys(const nlohmann::json& value, const std::string& text) {
  if (!value.is_object()) return;
  for (const auto& [key, child] : value.items()) {
    INFO(key);
    CHECK((mentions(text, "`" + key) || mentions(text, key + "`") || mentions(text, "\"" + key + "\"")));
    check_keys(child, text);
  }
}

// The value at a path of keys; discarded if there is none.
nlohmann::json at(const nlohmann::json& root, const std::string& dotted) {
  nlohmann::json value = root;
  std::istringstream keys(dotted);
  for (std::string key; std::getline(keys, key, '.');) {
    if (!value.is_object() || !value.contains(key)) return nlohmann::json(nlohmann::json::value_t::discarded);
    value = value[key];
  }
  return value;
}

}  // namespace

TEST_CASE("every configuration key is in docs/config.md", "[config]") {
  const std::string text = test::read_file(std::filesystem::path(EQ_SOURCE_DIR) / "docs" / "config.md");
  const Config config = parse_config(R"({"model": {"auxiliary_head": {}}, "train": {"ohem": {}}, "optimizer": {"groups": [{"pattern": "x"}]}})", "test");
  check_keys(nlohmann::json::parse(to_json_text(config)), text);
}

TEST_CASE("defaults in docs/config.md are those of an empty configuration", "[config]") {
  std::istringstream text(test::read_file(std::filesystem::path(EQ_SOURCE_DIR) / "docs" / "config.md"));
  const auto config = nlohmann::json::parse(to_json_text(parse_config("{}", "test")));
  std::string section;
  int compared = 0;
  for (std::string line; std::getline(text, line);) {
    if (line.starts_with("## ")) section = line.find(',') == std::string::npos ? line.substr(4, line.size() - 5) + "." : "";
    const size_t bar = line.find("` | "), end = line.find(" | ", bar + 4);
    if (!line.starts_with("| `") || bar == std::string::npos || end == std::string::npos || line.find('`', 3) != bar) continue;
    std::string documented = line.substr(bar + 4, end - bar - 4);
    std::erase(documented, '`');
    const auto expected = nlohmann::json::parse(documented, nullptr, false);
    const auto found = at(config, section + line.substr(3, bar - 3));
    if (expected.is_discarded() || found.is_discarded() || (expected.is_object() && found.is_object())) continue;
    INFO(line);
    CHECK(found == expected);
    ++compared;
  }
  CHECK(compared > 40);
}
