#include "models/pretrained.h"

#include <algorithm>
#include <set>

#include "autograd/functional.h"
#include "core/finite.h"
#include "core/weights_file.h"
#include "core/words.h"
#include "models/weight_names.h"

namespace eq {
namespace {

using State = std::map<std::string, Tensor>;

State without_prefix(const State& state, const std::string& prefix) {
  State part;
  for (const auto& [name, tensor] : state) {
    if (name.starts_with(prefix)) part[name.substr(prefix.size())] = tensor;
  }
  return part;
}

// Of a whole network's file (names begin with "backbone."), the backbone's part.
State backbone_weights(const std::filesystem::path& file) {
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored)) {
    throw IoError("the file of pretrained weights does not exist", file.string(),
                  "name another with --set model.backbone.pretrained=FILE, or leave it empty there to begin with random weights");
  }
  const State state = read_network_weights(file);
  const State part = without_prefix(state, "backbone.");
  return part.empty() ? state : part;
}

std::string first_part(const std::string& name) { return name.substr(0, name.find('.')); }

// The names of the state dict in the order of their use: a layer's parameters, then its buffers.
std::vector<std::string> names_in_order(Backbone& backbone) {
  std::vector<std::string> names;
  for (const Module::NamedModule& entry : backbone.named_modules()) {
    for (const Module::NamedTensor& own : entry.module->named_tensors()) {
      if (own.name.find('.') == std::string::npos) names.push_back(dotted(entry.name, own.name));
    }
  }
  const std::vector<std::string> order = backbone.order_of_use();
  const auto place = [&](const std::string& name) {
    return std::find_if(order.begin(), order.end(), [&](const std::string& beginning) { return name.starts_with(beginning); }) -
           order.begin();
  };
  std::stable_sort(names.begin(), names.end(), [&](const std::string& a, const std::string& b) { return place(a) < place(b); });
  return names;
}

}  // namespace

std::map<std::string, Tensor> read_network_weights(const std::filesystem::path& file) {
  State state = read_weights(file).tensors;
  for (const char* wrapper : {"_orig_mod.", "module.", "_orig_mod.", "model."}) {  // torch.compile's is outside or inside the other
    State inner = without_prefix(state, wrapper);
    if (inner.size() == state.size()) state = std::move(inner);
  }
  return state;
}

void check_finite(const std::string& name, const Tensor& value, const std::string& file) {
  if (!is_floating(value.dtype()) || all_finite(value)) return;
  throw DataError("the weights hold NaN or infinity: " + name, file, "the file is damaged, or of a training that failed: use another");
}

bool is_derived_table(const std::string& name) { return name.ends_with("relative_position_index") || name.ends_with("attn_mask"); }

std::string load_pretrained(Backbone& backbone, const std::filesystem::path& file, const std::string& mode) {
  const bool strict = mode == "strict";
  if (!strict && mode != "backbone") {
    throw UsageError("there is no way '" + mode + "' to load weights", "model.backbone.load_mode", "use strict or backbone");
  }
  State rest = backbone_weights(file), used;
  std::erase_if(rest, [](const auto& entry) { return is_derived_table(entry.first); });
  const State state = backbone.state_dict();
  const Dialect dialect = recognise(rest, state);
  std::vector<std::string> missing, behind, unused, misfits;  // misfits: there, but not as the backbone's
  std::set<std::string> parts;                                // of the file, that the backbone's weights are in
  bool last = true;                                           // what is missing is behind all that is there
  for (const std::string& name : names_in_order(backbone)) {
    if (is_derived_table(name)) continue;
    const ForeignName theirs = name_in(dialect, name);
    const auto found = rest.find(theirs.name);
    if (found == rest.end()) {
      if (name.ends_with("num_batches_tracked")) continue;
      missing.push_back(theirs.name == name ? name : name + " (" + owner(dialect) + " " + theirs.name + ")");
      continue;
    }
    parts.insert(first_part(theirs.name));
    const Tensor value = found->second;
    rest.erase(found);
    const Shape& shape = state.at(name).shape();
    const std::string whose = theirs.name == name ? "the file has " : "the file's " + theirs.name + " has ";
    if (!same_values(value.shape(), shape)) {
      misfits.push_back(name + " (" + to_string(shape) + "; " + whose + to_string(value.shape()) + ")");
    } else if (is_floating(value.dtype()) != is_floating(state.at(name).dtype())) {
      misfits.push_back(name + " (" + whose + name_of(value.dtype()) + ")");
    } else if (check_finite(theirs.name, value, file.string()); !strict && !missing.empty()) {
      behind.push_back(name);
    } else {
      const Tensor shaped = reshape(value, shape);
      used[name] = theirs.merges_patches ? unfold_order(shaped) : shaped;
      last = missing.empty();
    }
  }
  for (const auto& [name, tensor] : rest) unused.push_back(name);
  const std::string whose = dialect == Dialect::kOurs ? "" : " (" + owner(dialect) + " names)";
  const size_t all = used.size() + missing.size() + behind.size() + misfits.size();
  const std::string found_text = "loaded " + std::to_string(used.size()) + "/" + std::to_string(all) + whose +
                                 titled(", of another form: ", misfits) + titled(", missing: ", missing) +
                                 titled("; behind it, left at their initial values: ", behind) + titled("; not used: ", unused);
  // A classifier is a part of its own. What is left over among the backbone's parts, or has another form, is of another network.
  const bool other_network =
      !misfits.empty() || 2 * used.size() < all ||
      std::any_of(unused.begin(), unused.end(), [&](const std::string& name) { return parts.count(first_part(name)) > 0; });
  if (other_network || (strict && !(missing.empty() && unused.empty()))) {
    throw DataError("the weights do not fit the backbone: " + found_text, file.string(),
                    other_network ? "check model.backbone: its type, depth, stem, multiplier or variant"
                    : last ? "--load-mode backbone (model.backbone.load_mode) loads these " + std::to_string(used.size()) +
                                 "; what is missing comes behind them and keeps its initial values, what is not used is left out"
                           : "--load-mode backbone (model.backbone.load_mode) loads the layers up to the first missing one, and no others");
  }
  backbone.load_state_dict(used, false, file.string());
  return found_text;
}

}  // namespace eq
