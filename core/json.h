#pragma once
// The strict JSON reader for files that others wrote: configurations, manifests. (Only the forward declarations of the
// JSON library are included here; a .cpp file that uses the result includes <nlohmann/json.hpp>.)

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/limits.h"

namespace eq {

// Parses `text`; `name` (a file name) is for messages. With allow_comments, // and /* */ comments are skipped.
// Throws DataError with the line and column when the text is not JSON or UTF-8, contains a NUL (also as \u0000: names of files end there),
// repeats a key within an object, holds a number beyond double's range, nests deeper than limits::kJsonDepth or is longer than max_bytes.
nlohmann::json parse_json(const std::string& text, const std::string& name, bool allow_comments, size_t max_bytes = limits::kJsonBytes);

// `text` as a JSON string for an error message: quoted, control characters and bad UTF-8 escaped, cut after 120 bytes.
std::string quoted_for_message(const std::string& text);

bool is_utf8(const std::string& text);
// UTF-8 without control characters: a name that tables, logs and terminals can be given.
bool is_plain_text(const std::string& text);
// With U+FFFD for what is not UTF-8.
std::string as_utf8(const std::string& text);

// The whole number that a value is; none where it is something else or beyond int64. (The library's get() would cut it down to one.)
std::optional<int64_t> whole_number(const nlohmann::json& value);

// The number, or null for infinities and NaN, which JSON does not have.
nlohmann::json number_or_null(double value);

// The value as JSON, on one line or indented by so many blanks; what is not UTF-8 is replaced, where the library would throw.
std::string json_text(const nlohmann::json& value, int indent = -1);
std::string json_text(const nlohmann::ordered_json& value, int indent = -1);

// What a file of results holds: indented JSON and the end of a line. Numbers that are not finite become null, bad UTF-8 is replaced.
std::string file_text(const nlohmann::ordered_json& value);

// The values of nested objects under dotted keys, in their order, as JSON text. Lists are values, as are empty objects.
std::vector<std::pair<std::string, std::string>> flattened(const nlohmann::ordered_json& value);

// What the JSON library says went wrong, without its own numbering and position.
std::string json_reason(const std::string& library_message);

}  // namespace eq
