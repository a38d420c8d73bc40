#include "core/json.h"

#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "core/limits.h"
#include "support.h"

using namespace eq;
using Catch::Contains;

namespace {

void check_refused(const std::string& text, const std::string& reason, const std::string& position,
                   bool comments = false) {
  INFO(text.substr(0, 80));
  CHECK_THROWS_AS(parse_json(text, "config.json", comments), DataError);
  CHECK_THROWS_WITH(parse_json(text, "config.json", comments),
                    Contains(reason) && Contains("config.json, " + position));
}

std::string nested(int depth) { return std::string(size_t(depth), '[') + std::string(size_t(depth), ']'); }

}  // namespace

TEST_CASE("parse_json gives the values", "[json]") {
  const nlohmann::json value = parse_json(R"({"a": [1, -2, 0.5, "\u00e9", true, null], "b": {"a": {}}})", "x", false);
  CHECK(value["a"][0] == 1);
  CHECK(value["a"][1] == -2);
  CHECK(value["a"][2] == 0.5);
  CHECK(value["a"][3] == "\xc3\xa9");
  CHECK(value["a"][5].is_null());
  CHECK(value["b"]["a"].is_object());  // the same key in different objects
  CHECK(parse_json("3", "x", false) == 3);
}

TEST_CASE("parse_json allows comments only where they are asked for", "[json]") {
  const std::string text = "// head\n{\"a\": 1, // one\n /* two */ \"b\": \"//\"}";
  const nlohmann::json value = parse_json(text, "x", true);
  CHECK(value["a"] == 1);
  CHECK(value["b"] == "//");
  check_refused(text, "not valid JSON", "line 1, column 1");
}

TEST_CASE("parse_json says what is wrong and where", "[json]") {
  check_refused("", "there is nothing in it", "line 1, column 1");
  check_refused("{\"a\": 1,\n \"b\": }", "unexpected '}'", "line 2, column 7");
  check_refused("{\"a\": 1,\n\n \"a\": 2}", "\"a\" occurs twice", "line 3, column 4");
  check_refused("{\"a\": {\"b\": 1, \"b\": 1}}", "\"b\" occurs twice", "line 1, column 18");
  check_refused("[1, 2", "unexpected end", "line 1, column 5");
  check_refused("[1] 2", "unexpected", "line 1, column 5");
  check_refused("{a: 1}", "invalid literal", "line 1, column 2");
  check_refused("[NaN]", "invalid literal", "line 1");
  check_refused("[01]", "", "line 1");
  check_refused("[1e999]", "number overflow", "line 1");
  check_refused("[\"\xff\"]", "UTF-8", "line 1, column 3");
  check_refused("[\"\xc3(\"]", "UTF-8", "line 1");
  check_refused(std::string("[1]\0[2]", 7), "NUL", "line 1, column 4");
  check_refused("[\"a\nb\"]", "control character", "line 1");
  check_refused("[1,\n \"a\\u0000b\"]", "\"a\\u0000b\" contains a NUL", "line 2, column 11");
  check_refused("{\"a\\u0000\": 1}", "contains a NUL", "line 1");
  check_refused("/* never closed", "comment", "line 1", true);
}

TEST_CASE("parse_json keeps its limits", "[json]") {
  CHECK(parse_json(nested(limits::kJsonDepth), "x", false).is_array());
  check_refused(nested(limits::kJsonDepth + 1), "nests deeper", "line 1, column 33");
  check_refused(std::string(500000, '['), "nests deeper", "line 1, column 33");
  std::string objects;
  for (int i = 0; i < 33; ++i) objects += "{\"a\":";
  check_refused(objects, "nests deeper", "line 1");
  std::string most(limits::kJsonBytes, ' ');
  most.replace(0, 2, "[]");
  CHECK(parse_json(most, "x", false).is_array());
  most.push_back(' ');
  CHECK_THROWS_WITH(parse_json(most, "x", false), Contains("1048577 bytes"));
}

TEST_CASE("whole_number takes whole numbers within 64 bits only", "[json]") {
  CHECK(whole_number(-3) == -3);
  CHECK(whole_number(nlohmann::json::parse("9223372036854775807")) == std::numeric_limits<int64_t>::max());
  for (const char* other : {"9223372036854775808", "1.5", "1e300", "2.0", "\"2\"", "null", "true", "[1]"}) {
    INFO(other);
    CHECK_FALSE(whole_number(nlohmann::json::parse(other)));
  }
}

TEST_CASE("plain text is UTF-8 without control characters", "[json]") {
  for (const char* plain : {"", "traffic light", "\xc3\xa9 \xe2\x80\x94", "\"<&,\\"}) CHECK(is_plain_text(plain));
  for (const char* other : {"\xff", "\xc3", "a\nb", "\t", "\x1b[2J", "\x7f"}) CHECK_FALSE(is_plain_text(other));
  CHECK_FALSE(is_plain_text(std::string("a\0b", 3)));
  CHECK(as_utf8("a\n\xc3\xa9") == "a\n\xc3\xa9");
  CHECK(as_utf8("a\xff") == "a\xef\xbf\xbd");
}

TEST_CASE("quoted_for_message is short and printable", "[json]") {
  CHECK(quoted_for_message("a\"b\n") == "\"a\\\"b\\n\"");
  CHECK(quoted_for_message("\xff") == "\"\\ufffd\"");
  CHECK(quoted_for_message(std::string(100000, 'x')).size() < 200);
}
