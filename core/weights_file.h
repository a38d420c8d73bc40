#pragma once
// Files of weights, whatever program wrote them.

#include <map>
#include <string>

#include "core/tensor.h"

namespace eq {

struct WeightsFile {
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> metadata;
};

}  // namespace eq
