#include "training/convert.h"

#include <algorithm>

#include "core/words.h"
#include "datasets/dataset.h"
#include "models/pretrained.h"

namespace eq {
namespace {

struct Classes {
  std::vector<std::string> names;
  Palette palette;
};

Classes classes_of(const DataOptions& data) {
  if (!data.classes.empty()) return {data.classes, palette_for(data.palette, data.classes.size())};
  const auto dataset = make_dataset(data, "val");
  return {dataset->class_names(), dataset->palette()};
}

bool has_any(const TensorMap& state, const std::string& part) {
  return std::any_of(state.begin(), state.end(), [&](const auto& entry) { return entry.first.find(part) != std::string::npos; });
}

}  // namespace

ConvertedModel convert_weights(Config config, const std::filesystem::path& weights) {
  TensorMap state = read_network_weights(weights);
  const Classes classes = classes_of(config.data);
  config.model.num_classes = int64_t(classes.names.size());
  if (has_constants(config.model.equalizer) && !has_any(state, "_fusion.")) {
    throw UsageError("the weights have no equalizers, the configuration does (equalizer.mode " + config.model.equalizer.mode + ")",
                     weights.string(), "convert them with --set equalizer.mode=off; equalizers are measured when a network is trained");
  }
  ConvertedModel result;
  result.trained.model = untrained_model(config.model);
  const TensorMap ours = result.trained.model->state_dict();
  std::vector<std::string> left_out;
  const bool auxiliary = has_any(ours, "auxiliary_head.");
  std::erase_if(state, [&](const auto& entry) {
    const bool extra =
        (entry.first.starts_with("auxiliary_head.") && !auxiliary) || (is_derived_table(entry.first) && !ours.contains(entry.first));
    if (extra) left_out.push_back(entry.first);
    return extra;
  });
  for (const auto& [name, value] : ours) {
    if (is_derived_table(name) || name.ends_with("num_batches_tracked")) state.try_emplace(name, value);
  }
  for (const auto& [name, value] : state) check_finite(name, value, weights.string());
  load_weights(*result.trained.model, state, weights.string());
  result.trained.model->eval();
  result.trained.card = {.config = to_json_text(config), .class_names = classes.names, .palette = classes.palette};
  result.trained.config = std::move(config);
  result.trained.source = weights.string();
  result.left_out = some_of(left_out);
  return result;
}

}  // namespace eq
