#include "study/study_head.h"

#include <nlohmann/json.hpp>

namespace eq {

nlohmann::ordered_json study_head(const std::string& kind, const std::string& command, double seconds) {
  return {{"kind", kind}, {"command", command}, {"version", EQ_VERSION}, {"seconds", seconds}};
}

nlohmann::ordered_json interval_json(const std::optional<Interval>& interval) {
  return interval ? nlohmann::ordered_json(*interval) : nlohmann::ordered_json();
}

}  // namespace eq
