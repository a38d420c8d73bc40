#pragma once
// What files of studies have in common.

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "study/statistics/paired.h"

namespace eq {

// How every study.json begins: what kind of study it is, what was typed, which version of the engine ran it, how long it took.
nlohmann::ordered_json study_head(const std::string& kind, const std::string& command, double seconds);

nlohmann::ordered_json interval_json(const std::optional<Interval>& interval);  // [low, high], or null

nlohmann::ordered_json factor_json(const Factor& factor);  // {"factors", "mean", "t_interval"}

}  // namespace eq
