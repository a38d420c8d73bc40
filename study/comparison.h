#pragma once
// Two trained networks on the same pictures: `equiscale eval RUN --compare OTHER`.

#include <optional>
#include <string>
#include <vector>

#include "study/statistics/paired.h"
#include "training/evaluator.h"

namespace eq {

struct NetworkComparison {
  double difference = 0;             // of the mean IoU: network - other
  std::optional<Interval> interval;  // over pictures; none for few (study/statistics/over_pictures.h)
  struct ClassDifference {
    std::string name;
    double difference;  // of the IoU
  };
  std::vector<ClassDifference> classes;  // of those that both have, the largest differences first
  std::string words;
};

// Of one data set, both whole. Throws UsageError for another number of pictures or other classes.
NetworkComparison compare_networks(const std::string& name, const EvalResult& network, const std::string& other_name,
                                   const EvalResult& other);

}  // namespace eq
