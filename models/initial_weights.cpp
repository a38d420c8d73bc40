#include "models/initial_weights.h"

#include <map>
#include <set>
#include <vector>

#include "core/errors.h"
#include "core/words.h"
#include "models/pretrained.h"

namespace eq {
namespace {

namespace fs = std::filesystem;

fs::path weights_in(const fs::path& from) {
  std::error_code ignored;
  if (!fs::exists(from, ignored)) {
    throw IoError(
        "the weights to begin with do not exist", from.string(),
        "name a file of weights or a run's folder with --set model.init_from=..., or leave it empty to begin with random weights");
  }
  if (!fs::is_directory(from, ignored)) return from;
  if (fs::exists(from / "model.safetensors", ignored)) return from / "model.safetensors";
  throw IoError("there is no model.safetensors in this folder", from.string(),
                "give the folder of a finished run, or a file: of a run that is not finished one of those in its checkpoint/");
}

// What equalizing adds to the state dict (LevelSite, FusionSite).
std::set<std::string> equalizer_names(EncoderDecoder& network, const std::map<std::string, Tensor>& state) {
  std::set<std::string> names;
  for (const LevelSite* site : modules_of<LevelSite>(network)) {
    if (!has_constants(site->options())) continue;
    for (const auto& [name, value] : state) {
      if (name.starts_with(site->path() + ".")) names.insert(name);
    }
  }
  return names;
}

}  // namespace

InitialWeights load_initial_weights(EncoderDecoder& network, const fs::path& from) {
  const fs::path file = weights_in(from);
  const std::map<std::string, Tensor> state = network.state_dict(), theirs = read_network_weights(file);
  const auto fits = [&](const std::string& name) {
    const auto found = theirs.find(name);
    return found != theirs.end() && found->second.shape() == state.at(name).shape() &&
           is_floating(found->second.dtype()) == is_floating(state.at(name).dtype());
  };
  const std::set<std::string> equalizers = equalizer_names(network, state);
  InitialWeights result{.note = "", .equalizers = !equalizers.empty()};
  for (const std::string& name : equalizers) result.equalizers &= fits(name);
  std::map<std::string, Tensor> taken;
  std::vector<std::string> misfits, missing, unused;
  size_t all = 0, fitting = 0;
  for (const auto& [name, value] : state) {
    if (is_derived_table(name)) continue;
    const bool counter = name.ends_with("num_batches_tracked"), equalizer = equalizers.contains(name);  // counters only PyTorch keeps
    if (!counter && !equalizer) ++all;
    if (fits(name) && (!equalizer || result.equalizers)) {
      check_finite(name, theirs.at(name), file.string());
      taken[name] = theirs.at(name);
      if (!counter && !equalizer) ++fitting;
    } else if (const auto found = theirs.find(name); found != theirs.end() && !equalizer) {
      misfits.push_back(name + " (" + to_string(value.shape()) + "; the file has " + to_string(found->second.shape()) + ")");
    } else if (!counter && !equalizer) {
      missing.push_back(name);
    }
  }
  for (const auto& [name, value] : theirs) {
    if (!state.contains(name) && !is_derived_table(name)) unused.push_back(name);
  }
  result.note = "took " + std::to_string(fitting) + "/" + std::to_string(all) + " of the network's tensors" +
                titled("; of another form, left at their initial values: ", misfits) +
                titled("; not in the file, left at their initial values: ", missing) + titled("; not used: ", unused) +
                (equalizers.empty()  ? ""
                 : result.equalizers ? "; the equalizers keep the file's constants"
                                     : "; the equalizers are not the file's and will be measured");
  if (2 * fitting < all) {
    throw DataError("the weights are of another network: " + result.note, file.string(),
                    "check section model; the weights of a backbone alone go into model.backbone.pretrained");
  }
  network.load_state_dict(taken, false, file.string());
  return result;
}

}  // namespace eq
