#pragma once
// How every study.json begins: what kind of study it is, what was typed, which version of the engine ran it, how long it took.

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace eq {

nlohmann::ordered_json study_head(const std::string& kind, const std::string& command, double seconds);

}  // namespace eq
