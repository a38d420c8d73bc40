#pragma once
// Weights for a backbone from a file (core/weights_file.h) under PyTorch's names and layouts: a backbone's, or a whole network's
// ("backbone.…"), whose other parts are passed over; "module." and "model." in front of all names are left out. Whose names the file has is
// found out (models/weight_names.h).

#include <filesystem>
#include <map>
#include <string>

#include "models/segmentor.h"

namespace eq {

// `mode` "strict": the file has every tensor of the backbone, and no other. "backbone": its layers are loaded in their order up to the
// first one that the file lacks; that one and all behind it, which were trained on what is missing, keep their initial values, and what the
// backbone has no use for (a classifier) is left out. So load files of ImageNet weights for Swin and ConvNeXt, which lack the norms of the
// levels: these come last. A file is refused in both if tensors have another form, if it has less than half of the backbone's, or if
// something of the parts that the backbone has would be left over: it is another network's. Batch counters (num_batches_tracked), which
// only PyTorch keeps, may be missing in both; relative_position_index is a constant, and not read. Returns a line such as "loaded 130/135,
// missing: conv_pw_13.weight, ..." or "loaded 169/177 (timm's names), ...". Throws IoError, DataError (damaged; not finite; does not fit,
// naming what is missing or different) and UsageError (mode); then nothing is changed.
std::string load_pretrained(Backbone& backbone, const std::filesystem::path& file, const std::string& mode);

// The tensors of a file of weights (core/weights_file.h), without what wrappers put in front of every name ("module.", "model.",
// torch.compile's "_orig_mod.").
std::map<std::string, Tensor> read_network_weights(const std::filesystem::path& file);
// Throws DataError, naming the tensor and its file, if a floating one holds NaN or infinity.
void check_finite(const std::string& name, const Tensor& value, const std::string& file);
// Whether a tensor of this name is a table that other libraries keep with the weights although it follows from the sizes.
bool is_derived_table(const std::string& name);

}  // namespace eq
