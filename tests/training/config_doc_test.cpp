// docs/config.md must name every key there is.
#include <nlohmann/json.hpp>

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

}  // namespace

TEST_CASE("every configuration key is in docs/config.md", "[config]") {
  const std::string text = test::read_file(std::filesystem::path(EQ_SOURCE_DIR) / "docs" / "config.md");
  const Config config = parse_config(R"({"model": {"auxiliary_head": {}}, "optimizer": {"groups": [{"pattern": "x"}]}})", "test");
  check_keys(nlohmann::json::parse(to_json_text(config)), text);
}
