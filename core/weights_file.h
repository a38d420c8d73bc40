#pragma once
// Files of weights, whatever program wrote them.

#include <filesystem>
#include <map>
#include <string>

#include "core/tensor.h"

namespace eq {

struct WeightsFile {
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> metadata;
};

// Reads safetensors (core/safetensors.h) and what torch.save writes (core/torch_file.h), told apart by their first bytes: names do not
// matter. Throws IoError or DataError naming the file, the tensor and what is wrong.
WeightsFile read_weights(const std::filesystem::path& path);

}  // namespace eq
