#include "training/trained_model.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "core/errors.h"
#include "core/file.h"
#include "core/safetensors.h"
#include "core/sha256.h"
#include "core/words.h"
#include "datasets/label_map.h"
#include "datasets/transforms.h"
#include "training/evaluator.h"

namespace eq {
namespace {

namespace fs = std::filesystem;

constexpr const char* kCardKey = "equiscale";

ModelCard card_of(const WeightsFile& file, const fs::path& path) {
  const auto card = file.metadata.find(kCardKey);
  if (card == file.metadata.end()) {
    throw DataError("the file does not say which network its weights belong to", path.string(),
                    "use a model.safetensors that `equiscale train` wrote; a network from elsewhere goes through `equiscale convert`");
  }
  return read_card(card->second, path.string());
}

TrainedModel build(ModelCard card, const TensorMap& state, const std::string& source, const std::vector<std::string>& settings) {
  TrainedModel trained;
  trained.config = parse_config(card.config, source, settings);
  trained.config.model.num_classes = int64_t(card.class_names.size());
  trained.model = untrained_model(trained.config.model);
  load_weights(*trained.model, state, source);
  trained.model->eval();
  trained.card = std::move(card);
  trained.source = source;
  return trained;
}

TrainedModel load_folder(const fs::path& folder, const std::vector<std::string>& settings) {
  Checkpoint checkpoint = load_checkpoint(folder);
  return build(std::move(checkpoint.card), checkpoint.ema.empty() ? checkpoint.model : checkpoint.ema, folder.string(), settings);
}

}  // namespace

std::unique_ptr<EncoderDecoder> untrained_model(const ModelOptions& options) {
  const InitZeros zeros;
  return std::make_unique<EncoderDecoder>(without_pretrained(options));
}

TrainedModel load_trained_model(const fs::path& path, const std::vector<std::string>& settings) {
  if (fs::is_directory(path)) {
    if (fs::exists(path / "model.safetensors")) return load_trained_model(path / "model.safetensors", settings);
    if (has_checkpoint(path / "checkpoint")) return load_folder(path / "checkpoint", settings);
    if (has_checkpoint(path)) return load_folder(path, settings);
    throw IoError("there is no trained network in this folder", path.string(),
                  "give the folder of a run (with model.safetensors or checkpoint/ in it), or a weights file");
  }
  const WeightsFile file = read_safetensors(path);
  return build(card_of(file, path), file.tensors, path.string(), settings);
}

ModelCard read_weights_card(const fs::path& file) { return card_of(read_safetensors(file), file); }

std::string save_weights(const fs::path& path, const Module& model, const ModelCard& card) {
  const TensorMap state = model.state_dict();
  write_safetensors(path, state, {{kCardKey, write_card(card)}, {"format", "pt"}});
  return sha256_hex(state);
}

LabelMap predict_labels(TrainedModel& trained, const Image& image) {
  const std::vector<Tensor> views = prepare_views(image, trained.config.pipeline, trained.config.evaluate);
  const Tensor classes = predict_classes(*trained.model, views, image.height, image.width, trained.config.evaluate);
  return {image.height, image.width, classes.to_vector<uint8_t>()};
}

}  // namespace eq
