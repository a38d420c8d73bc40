#include "models/pretrained.h"

#include <algorithm>

#include "core/safetensors.h"

namespace eq {
namespace {

std::string listed(const std::string& title, const std::vector<std::string>& names) {
  constexpr size_t kMost = 6;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kMost); ++i) text += (i == 0 ? title : ", ") + names[i];
  return names.size() > kMost ? text + ", ... (" + std::to_string(names.size()) + " in all)" : text;
}

// Of a whole network's file (names begin with "backbone."), the backbone's part.
std::map<std::string, Tensor> read_weights(const std::filesystem::path& file) {
  const std::string prefix = "backbone.";
  std::map<std::string, Tensor> all = read_safetensors(file).tensors, part;
  for (const auto& [name, tensor] : all) {
    if (name.starts_with(prefix)) part[name.substr(prefix.size())] = tensor;
  }
  return part.empty() ? all : part;
}

// The names of the state dict in the order of the layers: a layer's parameters, then its buffers.
std::vector<std::string> names_in_order(Backbone& backbone) {
  std::vector<std::string> names;
  for (const Module::NamedModule& entry : backbone.named_modules()) {
    for (const auto& list : {entry.module->named_parameters(), entry.module->named_buffers()}) {
      for (const Module::NamedTensor& own : list) {
        if (own.name.find('.') == std::string::npos) names.push_back(entry.name.empty() ? own.name : entry.name + "." + own.name);
      }
    }
  }
  return names;
}

}  // namespace

std::string load_pretrained(Backbone& backbone, const std::filesystem::path& file, const std::string& mode) {
  const bool strict = mode == "strict";
  if (!strict && mode != "backbone") throw UsageError("there is no way '" + mode + "' to load weights", "model.backbone.load_mode", "use strict or backbone");
  std::map<std::string, Tensor> rest = read_weights(file), used;
  const std::map<std::string, Tensor> state = backbone.state_dict();
  std::vector<std::string> missing, behind, unused;
  for (const std::string& name : names_in_order(backbone)) {
    const auto found = rest.find(name);
    if (found == rest.end() && name.ends_with("num_batches_tracked")) continue;
    const Shape& shape = state.at(name).shape();
    if (found == rest.end()) {
      missing.push_back(name);
    } else if (!(found->second.shape() == shape)) {
      missing.push_back(name + " (" + to_string(shape) + "; the file has " + to_string(found->second.shape()) + ")");
    } else if (!strict && !missing.empty()) {
      behind.push_back(name);
    } else {
      used[name] = found->second;
    }
    if (found != rest.end()) rest.erase(found);
  }
  for (const auto& [name, tensor] : rest) unused.push_back(name);
  const std::string found_text = "loaded " + std::to_string(used.size()) + "/" + std::to_string(used.size() + missing.size() + behind.size()) +
                                 listed(", missing: ", missing) + listed("; behind it, left at their initial values: ", behind) +
                                 listed("; not used: ", unused);
  if (used.empty() || (strict && !(missing.empty() && unused.empty()))) {
    throw DataError("the weights do not fit the backbone: " + found_text, file.string(),
                    used.empty() ? "check model.backbone: its type, depth, stem, multiplier or variant"
                                 : "--load-mode backbone (model.backbone.load_mode) loads the layers up to the first missing one, and no others");
  }
  backbone.load_state_dict(used, false, file.string());
  return found_text;
}

}  // namespace eq
