#pragma once
// Weights for a backbone from a safetensors file under PyTorch's names and layouts: a backbone's, or a whole network's ("backbone.…"), whose
// other parts are passed over.

#include <filesystem>
#include <string>

#include "models/segmentor.h"

namespace eq {

// `mode` "strict": the file has every tensor of the backbone, and no other. "backbone": its layers are loaded in their order up to the first one that
// the file lacks; that one and all behind it, which were trained on what is missing, keep their initial values, and what the backbone has no
// use for (a classifier) is left out. Batch counters (num_batches_tracked), which only PyTorch keeps, may be missing in both.
// Returns a line such as "loaded 130/135, missing: conv_pw_13.weight, ...". Throws IoError, DataError (damaged; does not fit, naming
// what is missing; nothing to load) and UsageError (mode).
std::string load_pretrained(Backbone& backbone, const std::filesystem::path& file, const std::string& mode);

}  // namespace eq
