#pragma once
// Numbers in the files of a run: JSON has no infinity and no NaN.

#include <cmath>
#include <nlohmann/json.hpp>

namespace eq {

inline nlohmann::json number_or_null(double value) { return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(nullptr); }

}  // namespace eq
