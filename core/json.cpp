#include "core/json.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "core/errors.h"
#include "core/limits.h"
#include "core/words.h"

namespace eq {
namespace {

// Walks the text and leaves how far the parser has come where an error can find it.
class TrackedIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  TrackedIterator(const char* at, const char** reached) : at_(at), reached_(reached) {}
  reference operator*() const { return *at_; }
  TrackedIterator& operator++() {
    *reached_ = ++at_;
    return *this;
  }
  TrackedIterator operator++(int) {
    TrackedIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const TrackedIterator& other) const { return at_ == other.at_; }
  bool operator!=(const TrackedIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  const char** reached_;
};

std::string position_text(const std::string& name, const std::string& text, size_t consumed) {
  const size_t at = consumed == 0 ? 0 : std::min(consumed, text.size()) - 1;  // the last character that was read
  const auto line = 1 + std::count(text.begin(), text.begin() + std::ptrdiff_t(at), '\n');
  const size_t previous = at == 0 ? std::string::npos : text.rfind('\n', at - 1);
  const size_t column = previous == std::string::npos ? at + 1 : at - previous;
  return name + ", line " + std::to_string(line) + ", column " + std::to_string(column);
}

void flatten(const nlohmann::ordered_json& value, const std::string& path, std::vector<std::pair<std::string, std::string>>& flat) {
  if (value.is_object() && !value.empty()) {
    for (const auto& [key, inner] : value.items()) flatten(inner, dotted(path, key), flat);
  } else {
    flat.emplace_back(path, json_text(value));
  }
}

}  // namespace

std::string quoted_for_message(const std::string& text) {
  using nlohmann::json;
  constexpr size_t kLongest = 120;
  const bool cut = text.size() > kLongest;
  return json(cut ? text.substr(0, kLongest) : text).dump(-1, ' ', true, json::error_handler_t::replace) +
         (cut ? "..." : "");
}

bool is_utf8(const std::string& text) {
  try {
    nlohmann::json(text).dump();
    return true;
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}

bool is_plain_text(const std::string& text) {
  return is_utf8(text) && std::none_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

std::string as_utf8(const std::string& text) {
  using nlohmann::json;
  return json::parse(json_text(json(text))).get<std::string>();
}

std::optional<int64_t> whole_number(const nlohmann::json& value) {
  const bool beyond = value.is_number_unsigned() && value.get<uint64_t>() > uint64_t(std::numeric_limits<int64_t>::max());
  return value.is_number_integer() && !beyond ? std::optional(value.get<int64_t>()) : std::nullopt;
}

nlohmann::json number_or_null(double value) { return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(nullptr); }

std::string json_text(const nlohmann::json& value, int indent) {
  return value.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string json_text(const nlohmann::ordered_json& value, int indent) {
  return value.dump(indent, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::string file_text(const nlohmann::ordered_json& value) { return json_text(value, 1) + "\n"; }

std::vector<std::pair<std::string, std::string>> flattened(const nlohmann::ordered_json& value) {
  std::vector<std::pair<std::string, std::string>> flat;
  flatten(value, "", flat);
  return flat;
}

std::string json_reason(const std::string& library_message) {
  const size_t bracket = library_message.find("] ");
  std::string reason = bracket == std::string::npos ? library_message : library_message.substr(bracket + 2);
  if (reason.rfind("parse error", 0) == 0) {
    const size_t colon = reason.find(": ");
    if (colon != std::string::npos) reason = reason.substr(colon + 2);
  }
  constexpr size_t kLongest = 240;  // it may quote the input
  return reason.size() > kLongest ? reason.substr(0, kLongest) + "..." : reason;
}

nlohmann::json parse_json(const std::string& text, const std::string& name, bool allow_comments, size_t max_bytes) {
  using nlohmann::json;
  if (text.size() > max_bytes) {
    throw DataError("the JSON text has " + std::to_string(text.size()) + " bytes; at most " + std::to_string(max_bytes) + " are read",
                    name, "is it the right file?");
  }
  // The library takes a NUL for the end of the text and would not look at what follows.
  if (const size_t nul = text.find('\0'); nul != std::string::npos) {
    throw DataError("the JSON text contains a NUL byte", position_text(name, text, nul + 1), "is it the right file?");
  }
  const char* reached = text.data();
  auto where = [&] { return position_text(name, text, size_t(reached - text.data())); };
  const auto refuse_nul = [&](const std::string& value) {
    if (value.find('\0') == std::string::npos) return;
    throw DataError("the text " + quoted_for_message(value) + " contains a NUL", where(), "leave it out: names of files would end there");
  };
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  auto check = [&](int depth, json::parse_event_t event, json& value) {
    switch (event) {
      case json::parse_event_t::object_start: keys.emplace_back(); [[fallthrough]];
      case json::parse_event_t::array_start:
        if (depth >= limits::kJsonDepth) {
          throw DataError("the JSON text nests deeper than " + std::to_string(limits::kJsonDepth) + " levels", where(),
                          "is it the right file?");
        }
        break;
      case json::parse_event_t::object_end: keys.pop_back(); break;
      case json::parse_event_t::key:
        refuse_nul(value.get_ref<const std::string&>());
        if (!keys.back().insert(value.get<std::string>()).second) {
          throw DataError("the key " + quoted_for_message(value.get<std::string>()) + " occurs twice in one object",
                          where(), "keep one of the two");
        }
        break;
      case json::parse_event_t::value:
        if (value.is_string()) refuse_nul(value.get_ref<const std::string&>());
        break;
      default: break;
    }
    return true;
  };
  try {
    return json::parse(TrackedIterator(text.data(), &reached), TrackedIterator(text.data() + text.size(), &reached),
                       check, true, allow_comments);
  } catch (const json::exception& error) {
    throw DataError("this is not valid JSON: " + (text.empty() ? "there is nothing in it" : json_reason(error.what())), where(),
                    allow_comments ? "correct the text there" : "correct the text there (comments are not allowed in this file)");
  }
}

}  // namespace eq
