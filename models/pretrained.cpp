#include "models/pretrained.h"

#include <algorithm>

#include "autograd/functional.h"
#include "core/safetensors.h"
#include "models/weight_names.h"

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
  const Dialect dialect = recognise(rest, state);
  std::vector<std::string> missing, behind, unused;
  bool last = true;  // what is missing is behind all that is there
  for (const std::string& name : names_in_order(backbone)) {
    const ForeignName theirs = name_in(dialect, name);
    const auto found = rest.find(theirs.name);
    const bool is_constant = name.ends_with("relative_position_index");
    if (!is_constant && !(found == rest.end() && name.ends_with("num_batches_tracked"))) {
      const Shape& shape = state.at(name).shape();
      if (found == rest.end()) {
        missing.push_back(theirs.name == name ? name : name + " (" + owner(dialect) + " " + theirs.name + ")");
      } else if (!same_values(found->second.shape(), shape)) {
        const std::string whose = theirs.name == name ? "the file has " : "the file's " + theirs.name + " has ";
        missing.push_back(name + " (" + to_string(shape) + "; " + whose + to_string(found->second.shape()) + ")");
      } else if (!strict && !missing.empty()) {
        behind.push_back(name);
      } else {
        const Tensor value = reshape(found->second, shape);
        used[name] = theirs.merges_patches ? unfold_order(value) : value;
        last = missing.empty();
      }
    }
    if (found != rest.end()) rest.erase(found);
  }
  for (const auto& [name, tensor] : rest) unused.push_back(name);
  const std::string whose = dialect == Dialect::kOurs ? "" : " (" + owner(dialect) + " names)";
  const std::string found_text = "loaded " + std::to_string(used.size()) + "/" + std::to_string(used.size() + missing.size() + behind.size()) + whose +
                                 listed(", missing: ", missing) + listed("; behind it, left at their initial values: ", behind) +
                                 listed("; not used: ", unused);
  if (used.empty() || (strict && !(missing.empty() && unused.empty()))) {
    throw DataError("the weights do not fit the backbone: " + found_text, file.string(),
                    used.empty() ? "check model.backbone: its type, depth, stem, multiplier or variant"
                    : last ? "--load-mode backbone (model.backbone.load_mode) loads these " + std::to_string(used.size()) +
                                 "; what is missing comes behind them and keeps its initial values, what is not used is left out"
                           : "--load-mode backbone (model.backbone.load_mode) loads the layers up to the first missing one, and no others");
  }
  backbone.load_state_dict(used, false, file.string());
  return found_text;
}

}  // namespace eq
