#include "study/study_head.h"

#include <nlohmann/json.hpp>

namespace eq {

nlohmann::ordered_json study_head(const std::string& kind, const std::string& command, double seconds) {
  return {{"kind", kind}, {"command", command}, {"version", EQ_VERSION}, {"seconds", seconds}};
}

}  // namespace eq
