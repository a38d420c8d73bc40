#include "study/study_head.h"

#include <nlohmann/json.hpp>

namespace eq {

nlohmann::ordered_json study_head(const std::string& kind, const std::string& command, double seconds) {
  return {{"kind", kind}, {"command", command}, {"version", EQ_VERSION}, {"seconds", seconds}};
}

nlohmann::ordered_json interval_json(const std::optional<Interval>& interval) {
  return interval ? nlohmann::ordered_json(*interval) : nlohmann::ordered_json();
}

nlohmann::ordered_json factor_json(const Factor& factor) {
  return {{"factors", factor.factors}, {"mean", factor.mean}, {"t_interval", interval_json(factor.interval)}};
}

}  // namespace eq
